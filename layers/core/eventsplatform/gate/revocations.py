"""Ended sessions, copied from Postgres to Redis for the gate: what identity calls after its commit.

A session is refused by any of three keys: `session:{sid}` (the session ended), `session:{jti}` (that one token),
`session:user:{id}` (tokens below this generation). Each lives as long as an access token can. `session:complete`
says that the copy has everything that was committed before a moment, by Redis' clock, and expires COPY_SECONDS after
that moment. So whatever could not be copied holds by itself COPY_SECONDS after its commit, and `end_…` waits for that.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from redis import Redis, RedisError

from eventsplatform.gate.model import COPY_SECONDS, LEEWAY, Session, Standing
from eventsplatform.gate.store import COMPLETE, session_keys
from eventsplatform.observability import logger

# How long an access token can be valid: its lifetime, and the leeway of those who verify it.
ACCESS_TOKEN_SECONDS = 15 * 60 + int(LEEWAY.total_seconds())
# Clocks of two machines drift apart by far less than this in COPY_SECONDS.
CLOCK_DRIFT_SECONDS = 0.5
RETRY_SECONDS = 0.25
RESTORE_AGAIN_SECONDS = 1.0

# Who restores the copy holds this; it vanishes with everything else when Redis is emptied.
_RESTORING = "session:restoring"
_RESTORE_SECONDS = 5
_CHUNK = 500

# KEYS and ARGV[2…] in pairs. A generation only grows: commits may be copied in another order than they were made in.
_REVOKE = """
for i = 1, #KEYS do
  local generation = redis.call('GET', KEYS[i])
  if not generation or generation + 0 < ARGV[i + 1] + 0 then redis.call('SET', KEYS[i], ARGV[i + 1], 'EX', ARGV[1]) end
end
"""

# Nothing to do while another one is at it, or has just been.
_BEGIN_RESTORE = """
if redis.call('PTTL', KEYS[2]) > ARGV[3] + 0 then return false end
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then return false end
return redis.call('TIME')
"""

# Sets the sentinel only where the copy was begun: in between, Redis may have been emptied.
_FINISH_RESTORE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[2], 'PXAT', ARGV[3])
return 1
"""


@dataclass(frozen=True)
class LiveRevocations:
    """All that ended within the last ACCESS_TOKEN_SECONDS, as Postgres has it."""

    session_ids: Iterable[str] = ()
    token_ids: Iterable[str] = ()
    generations: Mapping[int, int] = field(default_factory=dict)

    def keys(self) -> Iterable[tuple[str, int]]:
        for name in (*self.session_ids, *self.token_ids):
            yield f"session:{name}", 1
        for user_id, generation in self.generations.items():
            yield f"session:user:{user_id}", generation


class Revocations:
    """Every method returns normally whether or not Redis answers: what Postgres has committed holds.

    `close_connections` is told what has ended, for the WebSockets that were opened with it.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        copy_seconds: float = COPY_SECONDS,
        close_connections: Callable[[Mapping[str, Any]], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._redis = redis
        self._close_connections = close_connections or (lambda _: None)
        self._copy_seconds = copy_seconds
        self._monotonic = monotonic
        self._sleep = sleep
        self._restore_from = -math.inf

    def end_session(self, session_id: str, token_id: str | None = None) -> None:
        """When this returns, no access token of the session is let through any more."""
        self._end(LiveRevocations([session_id], [token_id] if token_id is not None else []))
        self._close_connections({"session_id": session_id})

    def end_user(self, user_id: int, generation: int) -> None:
        """When this returns, no access token of the user of a lower generation is let through any more."""
        self._end(LiveRevocations(generations={user_id: generation}))
        self._close_connections({"user_id": user_id, "generation": generation})

    def restore(self, read: Callable[[], LiveRevocations]) -> bool:
        """Make the copy complete with what `read` finds in Postgres; whether this call did.

        One caller at a time does it; for the others, while the copy is fresh and while Redis is down, `read` isn't
        called.
        """
        if self._monotonic() < self._restore_from:
            return False
        mark = secrets.token_hex(8)
        try:
            fresh_ms = int(self._copy_seconds * 1000) // 2
            begun = self._redis.eval(_BEGIN_RESTORE, 2, _RESTORING, COMPLETE, mark, _RESTORE_SECONDS, fresh_ms)
            if not begun:
                return False
            # Before Postgres is read: what is committed from now on may be missing.
            seconds, microseconds = map(int, begun)
            self._write(read())
            began_us = seconds * 1_000_000 + microseconds
            expires_ms = began_us // 1000 + 2 * fresh_ms
            # With half of the copy's life left, the first request is told to have it renewed.
            renew_from_us = began_us + 1000 * fresh_ms
            return bool(self._redis.eval(_FINISH_RESTORE, 2, _RESTORING, COMPLETE, mark, renew_from_us, expires_ms))
        except RedisError as error:
            logger.warning("the revocations could not be copied", extra={"error": str(error)})
            # Everyone asks identity now, and must not wait for Redis' time-out each time.
            self._restore_from = self._monotonic() + RESTORE_AGAIN_SECONDS
            return False

    def standings(self, sessions: Sequence[Session]) -> list[Standing]:
        """What the copy says of many sessions, in one round trip; UNKNOWN of the live ones while it is incomplete."""
        keys = [COMPLETE, *(key for session in sessions for key in session_keys(session))]
        try:
            complete, *values = self._redis.mget(keys)
        except RedisError:
            return [Standing.UNKNOWN] * len(sessions)
        return [
            _standing(session, complete is not None, values[3 * index : 3 * index + 3])
            for index, session in enumerate(sessions)
        ]

    def _end(self, ended: LiveRevocations) -> None:
        expired_at = self._monotonic() + self._copy_seconds + CLOCK_DRIFT_SECONDS
        while True:
            try:
                self._write(ended)
                return
            except RedisError as error:
                logger.warning("a revocation could not be copied", extra={"error": str(error)})
            left = expired_at - self._monotonic()
            if left <= 0:
                return
            self._sleep(min(RETRY_SECONDS, left))

    def _write(self, ended: LiveRevocations) -> None:
        keys = iter(ended.keys())
        while chunk := list(islice(keys, _CHUNK)):
            names, values = zip(*chunk, strict=True)
            self._redis.eval(_REVOKE, len(names), *names, ACCESS_TOKEN_SECONDS, *values)


def _standing(session: Session, complete: bool, values: Sequence[Any]) -> Standing:
    ended, blacklisted, generation = values
    if ended or blacklisted or (generation is not None and int(generation) > session.generation):
        return Standing.REVOKED
    return Standing.LIVE if complete else Standing.UNKNOWN
