"""What the event store and the audit log know of people: handing it over, and taking names out of it.

Rows of the outbox stay, for they are the history of what happened; what they say of a person goes. The audit log is
never changed: it holds numbers and acts, and no names (docs/decisions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from eventsplatform.personal_data import HeldRows, read_held


class RecordStore(Protocol):
    """Each method is a transaction of its own."""

    def add_erasure(self, user_id: int) -> None:
        """Remember that the user is to be forgotten."""

    def late_erasures(self) -> Sequence[int]:
        """The users of whom rows may still come in: whoever writes them learns of an erasure by a message."""

    def forget_old_erasures(self) -> None: ...

    def redact(self, user_id: int) -> int:
        """Take the user's name, and drafts that nobody else has seen, out of the outbox; how many rows."""

    def held_changes(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]: ...

    def held_audit(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]: ...


class Records:
    def __init__(self, store: RecordStore) -> None:
        self._store = store

    def forget(self, user_id: int) -> int:
        """Take an erased person out of the event store; the number of rows changed. Doing it again is harmless."""
        self._store.add_erasure(user_id)
        return self._store.redact(user_id)

    def forget_late_rows(self) -> int:
        """The same for rows that came in after the erasure, from services that had not heard of it yet."""
        redacted = sum(self._store.redact(user_id) for user_id in self._store.late_erasures())
        self._store.forget_old_erasures()
        return redacted

    def held_about(self, user_id: int, after: Mapping[str, int] | None) -> HeldRows:
        return read_held(
            {
                "outbox": lambda after_id, limit: self._store.held_changes(user_id, after_id, limit),
                "audit_log": lambda after_id, limit: self._store.held_audit(user_id, after_id, limit),
            },
            after,
        )
