"""Closing connections whose session has ended or whose access token has expired.

Every message is checked as it comes; this is for those who only listen. Identity asks for it after it has ended a
session, and a sweep each minute closes what that missed. Clients come back with a new token and recover by `since`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import orjson

from eventsplatform.clock import Clock
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.gate.model import Session, SessionState, Standing
from eventsplatform.realtime.model import OpenConnection

EXPIRED = "The access token has expired; connect again with a new one."
ENDED = "This session has ended; sign in again."


class ConnectionStore(Protocol):
    def connections_of_session(self, session_id: str) -> list[OpenConnection]: ...

    def connections_of_user(self, user_id: int) -> list[OpenConnection]: ...

    def all_connections(self) -> Iterator[list[OpenConnection]]: ...

    def remove_connection(self, connection_id: str) -> None: ...


class Sockets(Protocol):
    def post(self, connection_id: str, data: bytes) -> bool: ...

    def close(self, connection_id: str) -> bool:
        """False when it could not be closed; one that is gone already counts as closed."""


class Copy(Protocol):
    """The copy of the revocations (`gate.revocations.Revocations`)."""

    def standings(self, sessions: Sequence[Session]) -> list[Standing]: ...


class Truth(Protocol):
    """Identity, which asked about one session completes the copy as well."""

    def check(self, session: Session) -> SessionState:
        """Raises DependencyUnavailableError."""


class Connections:
    def __init__(self, store: ConnectionStore, sockets: Sockets, copy: Copy, truth: Truth, clock: Clock) -> None:
        self._store = store
        self._sockets = sockets
        self._copy = copy
        self._truth = truth
        self._clock = clock

    def close_session(self, session_id: str) -> int:
        """Close what was opened with an ended session; how many there were."""
        return self._close((each, ENDED) for each in self._store.connections_of_session(session_id))

    def close_user(self, user_id: int, generation: int) -> int:
        """Close what was opened with the user's tokens of lower generations; how many there were."""
        connections = self._store.connections_of_user(user_id)
        return self._close((each, ENDED) for each in connections if each.generation < generation)

    def sweep(self, in_time: Callable[[], bool] = lambda: True) -> int:
        """Close all that have expired or whose session has ended, while it is `in_time`; how many.

        Raises DependencyUnavailableError when neither the copy nor identity can tell which sessions are live; what
        has expired is closed all the same.
        """
        closed = 0
        unknown: DependencyUnavailableError | None = None
        for connections in self._store.all_connections():
            now = self._clock()
            expired = [each for each in connections if each.expires_at <= now]
            closed += self._close((each, EXPIRED) for each in expired)
            try:
                ended = self._ended([each for each in connections if each.expires_at > now])
            except DependencyUnavailableError as error:
                unknown = error
            else:
                closed += self._close((each, ENDED) for each in ended)
            if not in_time():
                break
        if unknown is not None:
            raise unknown
        return closed

    def _ended(self, connections: Sequence[OpenConnection]) -> list[OpenConnection]:
        standings = self._copy.standings(connections)
        if Standing.UNKNOWN in standings:
            # Asked about one, identity copies what it knows of all.
            self._truth.check(connections[standings.index(Standing.UNKNOWN)])
            standings = self._copy.standings(connections)
        return [
            connection
            for connection, standing in zip(connections, standings, strict=True)
            if standing is Standing.REVOKED or (standing is Standing.UNKNOWN and not self._truth.check(connection).live)
        ]

    def _close(self, connections: Iterable[tuple[OpenConnection, str]]) -> int:
        closed = 0
        for connection, detail in connections:
            self._sockets.post(connection.id, orjson.dumps(farewell(detail)))
            # One that could not be closed stays known, for the next sweep.
            if self._sockets.close(connection.id):
                self._store.remove_connection(connection.id)
                closed += 1
        return closed


def farewell(detail: str) -> dict[str, str]:
    """The last frame of a connection that is closed for its session or token."""
    return {"type": "error", "code": "unauthenticated", "detail": detail}
