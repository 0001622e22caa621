"""What happens to the places of one event while they are locked: cancelled, offered to the line, accepted, expired.

Taking a free place is not here, for it needs no lock but that of the place's part (`service.Registrations.register`).
Everything else holds the lock of the line: first come, first served is an order, and an order has one end to join.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from eventsplatform.errors import ConflictError, NotFoundError
from eventsplatform.messaging.model import Appendable
from eventsplatform.registrations import messages
from eventsplatform.registrations.model import (
    Counts,
    EventPlaces,
    HeldRegistration,
    Part,
    Places,
    Registration,
)

OFFER_LIFETIME = timedelta(hours=24)

# How many offers are made, and how many expire, in one transaction: it holds the line meanwhile.
BATCH = 100


class AlreadyRegisteredError(Exception):
    """Raised by the store when the person already has a registration for the event."""


class NoFreePlaceError(Exception):
    """Raised by the store when there was no place to take. `may_have_room`: others were taking from the same parts,
    or an offer has expired."""

    def __init__(self, may_have_room: bool) -> None:
        super().__init__()
        self.may_have_room = may_have_room


class PlaceStore(Protocol):
    def find_event(self, event_id: int) -> EventPlaces | None: ...

    def lock_line(self, event_id: int) -> None:
        """Until the transaction ends nobody else joins or leaves the line, frees a place or opens one."""

    def lock_places(self, event_id: int) -> Places:
        """The event's places; until the transaction ends nobody else changes any of them. Locks the line first."""

    def put_places(self, event_id: int, parts: Sequence[Part]) -> None: ...

    def find_held(self, event_id: int, user_id: int) -> HeldRegistration | None:
        """The person's registration for the event that is not cancelled; nobody checks it in meanwhile."""

    def add_active(self, event_id: int, user_id: int, part: int) -> Registration:
        """A registration in a place that has been taken for it. Raises AlreadyRegisteredError."""

    def add_waiting(self, event_id: int, user_id: int, now: datetime) -> tuple[Registration, Counts] | None:
        """A registration at the end of the line, which is locked.

        None when the event is not open or has room, or the person's account has been erased. Raises
        AlreadyRegisteredError.
        """

    def cancel(self, held: Sequence[HeldRegistration]) -> list[HeldRegistration]: ...

    def revoke_tickets(self, event_id: int, registration_ids: Sequence[int], at: datetime) -> None:
        """End the present ticket of each, which is a change for the devices at the event's door to learn."""

    def accept(self, held: HeldRegistration) -> HeldRegistration: ...

    def offer(self, event_id: int, parts: Sequence[int], expires_at: datetime) -> list[HeldRegistration]:
        """Offer a place of each of the parts to the first in line, in order."""

    def due_offers(self, event_id: int, now: datetime, limit: int) -> list[HeldRegistration]:
        """Offers of the event that have expired and still hold their places."""


class LockedEvent:
    """One event whose places are locked until the transaction ends. `finish` writes and tells what has happened."""

    def __init__(
        self, store: PlaceStore, outbox: Appendable, event: EventPlaces, now: datetime, offer_lifetime: timedelta
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._event = event
        self._now = now
        self._offer_lifetime = offer_lifetime
        self._places = store.lock_places(event.event_id)
        self._without_ticket: list[int] = []
        self._happened: list[tuple[Registration, int, messages.Happening, int | None]] = []

    @property
    def taken(self) -> int:
        return self._places.taken

    def register(self, user_id: int) -> Registration | None:
        """A registration in a free place; None when there is none."""
        if self._places.waiting or self._places.taken >= self._event.capacity:
            return None
        part = self._places.take()
        registration = self._store.add_active(self._event.event_id, user_id, part)
        self._happened.append((registration, 1, "created", user_id))
        return registration

    def cancel(self, held: Sequence[HeldRegistration], actor_id: int | None) -> None:
        """Whatever they are: places and offers are free for the next, places in line are left."""
        for each in held:
            if each.part is not None:
                self._places.release(each.part)
            else:
                self._places.leave_line()
        self._without_ticket += [each.registration.id for each in held if each.registration.status == "active"]
        for cancelled in self._store.cancel(held) if held else []:
            self._happened.append((cancelled.registration, cancelled.version, "cancelled", actor_id))

    def accept(self, held: HeldRegistration) -> Registration:
        """Make an offer a registration. The place was held for it: no count changes."""
        accepted = self._store.accept(held)
        self._happened.append((accepted.registration, accepted.version, "created", held.registration.user_id))
        return accepted.registration

    def settle(self) -> bool:
        """End offers that have expired, and offer what is free to the first in line. True when there is more to do."""
        due = self._store.due_offers(self._event.event_id, self._now, BATCH)
        self.cancel(due, None)
        possible = min(self._event.capacity - self._places.taken, self._places.waiting)
        more = len(due) == BATCH
        if possible > 0 and self._event.is_open(self._now):
            offers = min(possible, BATCH)
            more = more or offers < possible
            self._places.leave_line(offers)
            parts = [self._places.take() for _ in range(offers)]
            expires_at = min(self._now + self._offer_lifetime, self._event.starts_at)
            for held in self._store.offer(self._event.event_id, parts, expires_at):
                self._happened.append((held.registration, held.version, "offered", None))
        return more

    def finish(self) -> None:
        self._places.resize(self._event.capacity)
        counts = self._places.counts(self._event.capacity)
        if self._places.changed:
            self._store.put_places(self._event.event_id, self._places.changed)
        if self._without_ticket:
            # Last, as by whoever checks people in: so nobody at the door waits for one who waits for them.
            self._store.revoke_tickets(self._event.event_id, self._without_ticket, self._now)
        for registration, version, what, actor_id in self._happened:
            self._outbox.append(messages.registration_changed(registration, version, counts, what, actor_id))


def release(locked: LockedEvent, held: HeldRegistration | None, event_id: int, actor_id: int) -> None:
    """Give up a person's place, offer or place in line. Raises NotFoundError or ConflictError."""
    if held is None:
        raise not_registered(event_id)
    if held.registration.status == "checked_in":
        raise ConflictError("You have been checked in; this registration can no longer be cancelled.")
    locked.cancel([held], actor_id)
    locked.settle()
    locked.finish()


def not_registered(event_id: int) -> NotFoundError:
    return NotFoundError(f"You are not registered for event {event_id}.")
