"""Sessions: whether one is live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pydantic import BaseModel

from eventsplatform.messaging.model import Work


class SessionState(BaseModel):
    """`live`: the token may be used; `verified`: its account's address is confirmed by now."""

    live: bool
    verified: bool


class SessionStore(Protocol):
    def check_session(self, user_id: int, session_id: str, token_id: str, generation: int) -> SessionState: ...


class Sessions:
    def __init__(self, work: Work[SessionStore], restore_copy: Callable[[], object]) -> None:
        self._work = work
        self._restore_copy = restore_copy

    def check(self, user_id: int, session_id: str, token_id: str, generation: int) -> SessionState:
        """What is true of a session now, and the gate's copy of what ended is made complete again."""
        with self._work.statement() as store:
            state = store.check_session(user_id, session_id, token_id, generation)
        self._restore_copy()
        return state
