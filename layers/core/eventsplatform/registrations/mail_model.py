"""The mails that attendees get: which there are, and when each is still true."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel

from eventsplatform.registrations.model import EventFacts, Place, Registration

MailKind = Literal[
    "confirmation",
    "waitlisted",
    "offer",
    "offer_expired",
    "cancellation",
    "event_changed",
    "event_cancelled",
    "reminder",
]

# Those that come with the event as a calendar file: it puts the event into the calendar of who has a place, moves it
# there, or takes it away.
WITH_CALENDAR: frozenset[MailKind] = frozenset({"confirmation", "event_changed", "event_cancelled"})

# What became of a mail: `outdated` is no longer true, `unreachable` has nobody to go to, `unwanted` was turned off,
# `rejected` by the mail service, `given_up` could not be sent for too long.
Outcome = Literal["sent", "outdated", "unreachable", "unwanted", "rejected", "given_up"]

# News of any kind are not mailed about when they are older, whether they came late or could not be sent.
NEWS_LIFETIME = timedelta(days=2)

REMINDER_LEAD = timedelta(hours=24)

_FIRST_RETRY, _LAST_RETRY = timedelta(minutes=1), timedelta(minutes=15)


class Recipient(BaseModel):
    """A person as identity describes whom mail can be sent to. `reminders`: whether they want any."""

    id: int
    email: str
    name: str
    timezone: str | None
    reminders: bool


class Schedule(BaseModel):
    """When and where an event is: what attendees are told of when it changes."""

    starts_at: datetime
    ends_at: datetime
    timezone: str
    location: Place

    @classmethod
    def of(cls, event: EventFacts) -> Schedule:
        return cls(starts_at=event.starts_at, ends_at=event.ends_at, timezone=event.timezone, location=event.location)


@dataclass(frozen=True)
class News:
    """Something of which one person is to be told, once per `cause`."""

    cause: str
    kind: MailKind
    user_id: int
    event_id: int
    registration_id: int
    registered_at: datetime
    happened_at: datetime


@dataclass(frozen=True)
class Announcement:
    """Something of which all attendees of an event are to be told whose registrations have one of the statuses.

    `schedule` is what a mail compares the event with: as it was told before, or as it is reminded of. Who registered
    after `registered_before` knows already.
    """

    cause: str
    kind: MailKind
    event_id: int
    statuses: tuple[str, ...]
    happened_at: datetime
    schedule: Schedule | None = None
    registered_before: datetime | None = None


@dataclass(frozen=True)
class ClaimedMail:
    """A mail that is this sender's until the lease ends, and the registration that it is about as it is now.

    `attempts` tells this claim from later ones. `held`: the person has a registration for the event, this or another.
    """

    id: int
    kind: MailKind
    attempts: int
    happened_at: datetime
    registration: Registration
    held: bool
    schedule: Schedule | None


def is_true(mail: ClaimedMail, event: EventFacts, now: datetime) -> bool:
    """Whether the mail still says what is: it may have waited, and its cause may be told late or out of order."""
    registration = mail.registration
    if mail.kind == "event_cancelled":
        return mail.held and event.status == "cancelled"
    if event.status != "published" or event.starts_at <= now:
        return False
    if mail.kind == "offer":
        expires_at = registration.offer_expires_at
        return registration.status == "offered" and expires_at is not None and now < expires_at
    if mail.kind in ("offer_expired", "cancellation"):
        return registration.status == "cancelled" and not mail.held
    if mail.kind == "event_changed":
        return registration.status in ("active", "waitlisted", "offered") and Schedule.of(event) != mail.schedule
    if mail.kind == "reminder":
        return (
            registration.status == "active"
            and mail.schedule is not None
            and (mail.schedule.starts_at == event.starts_at)
        )
    return registration.status == {"confirmation": "active", "waitlisted": "waitlisted"}[mail.kind]


def tells_of_cancellation(mail: ClaimedMail, event: EventFacts) -> bool:
    """Whether the mail's person, who registered while the event was being cancelled, is to hear of that instead."""
    return event.status == "cancelled" and mail.kind in ("confirmation", "waitlisted", "offer")


def cancellation_of(event_id: int) -> str:
    """The cause of the mails that tell of an event's cancellation: there is one, whoever comes to know of it."""
    return f"event-{event_id}-cancelled"


def retry_after(attempts: int) -> timedelta:
    """How long a mail waits that could not be sent: twice as long each time."""
    return min(_FIRST_RETRY * 2 ** min(attempts - 1, 10), _LAST_RETRY)
