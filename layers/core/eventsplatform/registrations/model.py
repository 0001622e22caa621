"""Registrations, what this service knows of the events they are for, and the places that events have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from eventsplatform.pagination import DEFAULT_LIMIT, MAXIMUM_LIMIT

TeamRole = Literal["manager", "check_in"]
EventRole = Literal["owner", "manager", "check_in"]
RegistrationStatus = Literal["active", "waitlisted", "offered", "cancelled", "checked_in"]

# Of each event. As many registrations of one event can be under way at once without waiting for each other's COMMIT.
PARTS = 16

# The part whose row is the lock of the waitlist, too.
LINE = 0


class Registration(BaseModel):
    """`position` is the place in the waitlist, from 1; None for everyone else."""

    id: int
    event_id: int
    user_id: int
    status: RegistrationStatus
    position: int | None
    registered_at: datetime
    offer_expires_at: datetime | None


class PageQuery(BaseModel):
    """The query string of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAXIMUM_LIMIT)
    cursor: str | None = Field(default=None, max_length=500)


class Membership(BaseModel):
    """Someone who helps with an event."""

    user_id: int
    role: TeamRole


class EventPlaces(BaseModel):
    """What of an event decides whether a place can be taken, and by whom it is run. `version` is the catalog's."""

    event_id: int
    organizer_id: int
    status: str
    starts_at: datetime
    ends_at: datetime
    timezone: str
    capacity: int
    team: list[Membership]
    version: int

    def is_open(self, now: datetime) -> bool:
        """Whether places are still given out."""
        return self.status == "published" and now < self.starts_at

    def role_of(self, user_id: int) -> EventRole | None:
        if user_id == self.organizer_id:
            return "owner"
        return next((member.role for member in self.team if member.user_id == user_id), None)


class Place(BaseModel):
    """Where an event is; WGS 84 degrees where they are known."""

    name: str
    lat: float | None = None
    lon: float | None = None


class Organizer(BaseModel):
    id: int
    name: str


class EventFacts(BaseModel):
    """The projection of an event: what the catalog tells of it, in a message or an answer."""

    id: int
    title: str
    description: str
    starts_at: datetime
    ends_at: datetime
    timezone: str
    location: Place
    capacity: int
    category: str
    tags: list[str]
    status: str
    cancellation_reason: str | None = None
    organizer: Organizer
    team: list[Membership] = []
    series_id: int | None = None
    series_date: date | None = None
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of_event(cls, event: Mapping[str, Any]) -> EventFacts:
        return cls.model_validate(event)


class CapacityAnswer(BaseModel):
    """How many places of an event are taken, and whether no more than a lower capacity are given out from now on."""

    accepted: bool
    taken: int


class CapacityAnswers(BaseModel):
    """By event; when one is refused, there may be none for the others."""

    answers: dict[int, CapacityAnswer]


class PartCounts(BaseModel):
    """What one part of an event's places counts; `version` grows with each change of it."""

    number: int
    registered: int
    waitlisted: int
    version: int


class Counts(BaseModel):
    """An event's counts as a change of them knows them: places taken (held by an offer, too) and people in line.

    The totals leave out what is being changed at the same moment by others. `parts` are those that this change made:
    who keeps the latest `version` of each part, whatever order they come in, has totals that equal a recount.
    """

    registered: int
    waitlisted: int
    available: int
    version: int
    parts: list[PartCounts] = []


@dataclass(frozen=True)
class HeldRegistration:
    """A registration as it is stored: `part` is where its place is, `ticket` its number in line while it waits."""

    registration: Registration
    version: int
    part: int | None
    ticket: int | None


@dataclass(frozen=True)
class Part:
    """A share of an event's places. The first one counts who waits and numbers them, too."""

    number: int
    capacity: int
    taken: int
    waiting: int
    version: int

    def counts(self) -> PartCounts:
        return PartCounts(number=self.number, registered=self.taken, waitlisted=self.waiting, version=self.version)


class Places:
    """The places of one event while they are locked: nobody else takes, frees or waits for one.

    While anyone waits no part has a free place: a free one can be taken without a look at the line.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = {part.number: part for part in parts}
        self._changed: set[int] = set()

    @property
    def taken(self) -> int:
        return sum(part.taken for part in self._parts.values())

    @property
    def capacity(self) -> int:
        """The places that are open: fewer than the event's while anyone waits."""
        return sum(part.capacity for part in self._parts.values())

    @property
    def waiting(self) -> int:
        return self._parts[LINE].waiting

    @property
    def changed(self) -> list[Part]:
        """The parts that are not as they were, each in its next version."""
        return [self._parts[number] for number in sorted(self._changed)]

    def release(self, number: int) -> None:
        """Free a place, which stays in its part."""
        self._change(number, taken=self._parts[number].taken - 1)

    def take(self) -> int:
        """Take a place, there or made room for, in the part that has given away fewest; its number."""
        number = min(self._parts, key=lambda each: (self._parts[each].taken, each))
        part = self._parts[number]
        self._change(number, taken=part.taken + 1, capacity=max(part.capacity, part.taken + 1))
        return number

    def leave_line(self, people: int = 1) -> None:
        self._change(LINE, waiting=self.waiting - people)

    def resize(self, capacity: int) -> None:
        """Open as many places as the event has left, evenly; none while anyone waits for them."""
        if not self.waiting and self.capacity == max(capacity, self.taken):
            return
        free = 0 if self.waiting else max(0, capacity - self.taken)
        each, more = divmod(free, len(self._parts))
        for number, part in self._parts.items():
            wanted = part.taken + each + (number < more)
            if part.capacity != wanted:
                self._change(number, capacity=wanted)

    def counts(self, capacity: int) -> Counts:
        return Counts(
            registered=self.taken,
            waitlisted=self.waiting,
            available=max(0, capacity - self.taken),
            version=sum(part.version for part in self._parts.values()),
            parts=[part.counts() for part in self.changed],
        )

    def _change(self, number: int, **changes: int) -> None:
        part = self._parts[number]
        version = part.version + (number not in self._changed)
        self._parts[number] = replace(part, version=version, **changes)
        self._changed.add(number)
