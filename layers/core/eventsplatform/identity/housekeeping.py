"""Deleting what has had its time: tokens, sign-ups, sessions and notes of mails."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from eventsplatform.clock import Clock
from eventsplatform.messaging.model import Work

BATCH = 1_000

# How long each is kept beyond its end. A refresh token is kept, spent or not, for as long as it could be presented,
# or its reuse would go unnoticed; a session as long as its owner may want to know of it; a sign-up until the mail
# could have been asked for again.
KEPT_FOR = {
    "one_time_tokens": timedelta(days=1),
    "sign_ups": timedelta(days=7),
    "account_mails": timedelta(days=7),
    "token_blacklist": timedelta(hours=1),
    "refresh_tokens": timedelta(days=1),
    "sessions": timedelta(days=30),
    "known_networks": timedelta(days=180),
}


class HousekeepingStore(Protocol):
    """Each deletes what ended before a moment, at most so many rows, and says how many they were."""

    def delete_one_time_tokens(self, before: datetime, at_most: int) -> int: ...

    def delete_sign_ups(self, before: datetime, at_most: int) -> int: ...

    def delete_account_mails(self, before: datetime, at_most: int) -> int: ...

    def delete_token_blacklist(self, before: datetime, at_most: int) -> int: ...

    def delete_refresh_tokens(self, before: datetime, at_most: int) -> int: ...

    def delete_sessions(self, before: datetime, at_most: int) -> int: ...

    def delete_known_networks(self, before: datetime, at_most: int) -> int: ...


class Housekeeping:
    def __init__(self, work: Work[HousekeepingStore], clock: Clock) -> None:
        self._work = work
        self._clock = clock

    def run(self, has_time: Callable[[], bool]) -> dict[str, int]:
        """How many rows of each table were deleted; what is left when time runs out is for the next run."""
        deleted: dict[str, int] = {}
        for table, kept_for in KEPT_FOR.items():
            before, deleted[table] = self._clock() - kept_for, 0
            batch = BATCH
            while batch == BATCH and has_time():
                with self._work.statement() as store:
                    batch = _deletions(store)[table](before, BATCH)
                deleted[table] += batch
        return deleted


def _deletions(store: HousekeepingStore) -> dict[str, Callable[[datetime, int], int]]:
    return {
        "one_time_tokens": store.delete_one_time_tokens,
        "sign_ups": store.delete_sign_ups,
        "account_mails": store.delete_account_mails,
        "token_blacklist": store.delete_token_blacklist,
        "refresh_tokens": store.delete_refresh_tokens,
        "sessions": store.delete_sessions,
        "known_networks": store.delete_known_networks,
    }
