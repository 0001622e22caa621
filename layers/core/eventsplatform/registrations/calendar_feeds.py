"""A person's events as a calendar to subscribe to, for programs that can sign in nowhere: its address is the secret.

256 random bits in the address, of which a hash is kept: it is found by the hash, so how long that takes says nothing of
the secret. One address per person; another one ends the one before. It is dead while its owner is suspended.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from pydantic import BaseModel, Field

from eventsplatform.clock import Clock
from eventsplatform.errors import NotFoundError, UnauthenticatedError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import Work
from eventsplatform.registrations.model import EventFacts, RegistrationStatus

_TOKEN_BYTES = 32

# What a feed has of a person's events: those that were over no longer ago, and that begin no later. What has been
# called off stays until it would have been over, so that calendars that keep entries learn of it.
PAST = timedelta(days=366)
AHEAD = timedelta(days=3660)
MOST = 500

# A part of every tag: another one whenever the same events are written in another way.
_FORM = 1


class CalendarFeed(BaseModel):
    created_at: datetime


class NewCalendarFeed(CalendarFeed):
    """The answer to `POST /v1/users/me/calendar`."""

    url: str = Field(description="To subscribe to. Whoever knows it sees the calendar: it is told this once.")


@dataclass(frozen=True)
class Attendance:
    """An event, and what a person's last registration for it is; `changes` grows with every change of any of them."""

    event: EventFacts
    status: RegistrationStatus
    offer_expires_at: datetime | None
    changes: int


@dataclass(frozen=True)
class FeedContent:
    attendances: Sequence[Attendance]

    @property
    def etag(self) -> str:
        state = [(each.event.id, each.event.version, each.status, each.changes) for each in self.attendances]
        return f'"{hashlib.sha256(repr((_FORM, state)).encode()).hexdigest()[:32]}"'


class FeedStore(Protocol):
    def put_feed(self, user_id: int, token_hash: bytes) -> datetime | None:
        """The one feed of a person, in place of the one before; None for who has been erased."""

    def find_feed(self, user_id: int) -> datetime | None: ...

    def delete_feed(self, user_id: int) -> bool:
        """Whether there was one."""

    def read_feed(
        self, token_hash: bytes, now: datetime, since: datetime, until: datetime, limit: int
    ) -> list[Attendance] | None:
        """The latest events first; None when there is no such feed, or its owner is suspended."""


class CalendarFeeds:
    def __init__(self, work: Work[FeedStore], clock: Clock) -> None:
        self._work = work
        self._clock = clock

    def renew(self, address: str, caller: Caller) -> NewCalendarFeed:
        """A feed under `address`, in place of the one before. Raises UnauthenticatedError for who has been erased."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._work() as (store, _):
            created_at = store.put_feed(caller.user_id, _hash(token))
        if created_at is None:
            raise UnauthenticatedError("The account has been erased.")
        return NewCalendarFeed(url=f"{address}?token={token}", created_at=created_at)

    def describe(self, caller: Caller) -> CalendarFeed:
        """Raises NotFoundError."""
        with self._work.statement() as store:
            created_at = store.find_feed(caller.user_id)
        if created_at is None:
            raise _no_feed()
        return CalendarFeed(created_at=created_at)

    def revoke(self, caller: Caller) -> None:
        """Raises NotFoundError."""

        def change(store: FeedStore, _: object) -> None:
            if not store.delete_feed(caller.user_id):
                raise _no_feed()

        self._work.run(None, change)

    def read(self, token: str) -> FeedContent:
        """What the calendar shows at the moment. Raises NotFoundError for an address that is not good, or no more."""
        now = self._clock()
        with self._work.statement() as store:
            attendances = store.read_feed(_hash(token), now, now - PAST, now + AHEAD, MOST)
        if attendances is None:
            raise NotFoundError("There is no such calendar: its address may have been renewed or revoked.")
        return FeedContent(attendances)


def _no_feed() -> NotFoundError:
    return NotFoundError("You have no calendar to subscribe to; POST /v1/users/me/calendar makes one.")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
