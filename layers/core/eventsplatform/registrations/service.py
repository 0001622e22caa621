"""Registering for an event: a place while there is one, then a place in line; cancelling, and offers to the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from eventsplatform.clock import Clock
from eventsplatform.errors import ConflictError, ForbiddenError, NotFoundError, UnauthenticatedError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import Appendable, Recording, Work
from eventsplatform.pagination import Page, decode_cursor, encode_cursor, invalid_cursor
from eventsplatform.registrations import messages
from eventsplatform.registrations.lifecycle import (
    OFFER_LIFETIME,
    AlreadyRegisteredError,
    LockedEvent,
    NoFreePlaceError,
    PlaceStore,
    not_registered,
    release,
)
from eventsplatform.registrations.model import CapacityAnswer, EventFacts, EventPlaces, PageQuery, Registration

Result = TypeVar("Result")

# Where a registration stands in lists: its moment, and its id for those of the same moment.
Position = tuple[datetime, int]

# How many expired offers one run looks at; what is left is due a minute later.
SWEEP = 1_000


class UnknownEventError(Exception):
    """The event is not known here yet, or not open to the public."""


class _NotInLineError(Exception):
    """Something else than joining the line is to be done."""


class RegistrationStore(PlaceStore, Protocol):
    def put_events(self, events: Sequence[EventFacts]) -> None:
        """Keep each projection, in order, unless a later version is already there."""

    def facts_of(self, event_ids: Sequence[int]) -> dict[int, EventFacts]:
        """What is known of the events; one is missing that was last told of to an earlier release."""

    def set_capacity(self, event_id: int, capacity: int) -> None:
        """Until a later version of the event is told."""

    def taken_places(self, event_ids: Sequence[int]) -> dict[int, int]:
        """How many places of each event are taken at this moment."""

    def add_places(self, event_ids: Sequence[int]) -> None:
        """Give events that have none yet their places."""

    def unsettled(self, event_ids: Sequence[int]) -> list[int]:
        """Those of the events that have more or fewer places open than they should."""

    def page_of_event(self, event_id: int, after: Position | None, limit: int) -> list[Registration]:
        """The event's registrations that come after a position, in order."""

    def page_of_user(self, user_id: int, before: Position | None, limit: int) -> list[Registration]:
        """The user's registrations that come before a position, the last first."""

    def may_have_room(self, event_id: int, now: datetime) -> bool:
        """Whether a place is free, or was before one who is taking it, or is held by an offer that has expired."""

    def take_place(
        self, recording: Recording, event_id: int, user_id: int, now: datetime, *, wait: bool
    ) -> Registration:
        """A registration in a free place of an open event, told of and recorded.

        Raises NoFreePlaceError, without `wait` also when someone else may be taking what is free, and
        AlreadyRegisteredError.
        """

    def is_erased(self, user_id: int) -> bool:
        """Whether the account of the person has been erased."""

    def events_with_due_offers(self, now: datetime, limit: int) -> list[int]: ...


class EventDirectory(Protocol):
    """The catalog, as registrations asks it for an event it has not been told about yet."""

    def describe(self, event_id: int) -> EventFacts:
        """Raises NotFoundError."""


class Registrations:
    def __init__(
        self,
        work: Work[RegistrationStore],
        events: EventDirectory,
        clock: Clock,
        offer_lifetime: timedelta = OFFER_LIFETIME,
    ) -> None:
        self._work = work
        self._events = events
        self._clock = clock
        self._offer_lifetime = offer_lifetime

    def register(self, event_id: int, caller: Caller) -> Registration:
        """Take a place, or a place in line when the event is full.

        Raises NotFoundError for an event that is not open to the public, ConflictError for one that is
        over or cancelled and for a second registration of the same person.
        """

        return self._knowing(event_id, lambda: self._register(event_id, caller.user_id))

    def cancel(self, event_id: int, caller: Caller) -> None:
        """Give up one's place, offer or place in line; what is freed is offered to the first in line.

        Raises NotFoundError without a registration, ConflictError once the event has started.
        """

        def change(store: RegistrationStore, outbox: Appendable) -> None:
            now = self._clock()
            event = self._event(store, event_id)
            locked = LockedEvent(store, outbox, event, now, self._offer_lifetime)
            held = store.find_held(event_id, caller.user_id)
            if held is not None and event.starts_at <= now:
                raise ConflictError("The event has started; this registration can no longer be cancelled.")
            release(locked, held, event_id, caller.user_id)

        self._knowing(event_id, lambda: self._work.run(None, change))

    def accept(self, event_id: int, caller: Caller) -> Registration:
        """Take the place that was offered. Raises NotFoundError, or ConflictError when there is no offer any more."""

        def change(store: RegistrationStore, outbox: Appendable) -> Registration:
            now = self._clock()
            event = self._event(store, event_id)
            locked = LockedEvent(store, outbox, event, now, self._offer_lifetime)
            held = store.find_held(event_id, caller.user_id)
            if held is None:
                raise not_registered(event_id)
            offer = held.registration
            if offer.status != "offered":
                raise ConflictError(f"There is no offer to accept: your registration is {offer.status}.")
            if offer.offer_expires_at is not None and offer.offer_expires_at <= now:
                raise ConflictError("The offer has expired.")
            self._check_open(event, now)
            accepted = locked.accept(held)
            locked.finish()
            return accepted

        return self._knowing(event_id, lambda: self._work.run(Registration, change))

    def learn_events(self, events: Sequence[EventFacts]) -> None:
        """Project events, told by the catalog, and give their places to whom they are for."""
        if not events:
            return
        event_ids = sorted({event.id for event in events})
        with self._work() as (store, _):
            store.put_events(events)
            store.add_places(event_ids)
            unsettled = store.unsettled(event_ids)
        for event_id in unsettled:
            self._settle(event_id)

    def facts_of(self, event_ids: Sequence[int]) -> dict[int, EventFacts]:
        """What the catalog has told of events; it is asked for those of which nothing is known here."""
        with self._work.statement() as store:
            known = store.facts_of(event_ids)
        if missing := [self._events.describe(event_id) for event_id in event_ids if event_id not in known]:
            self.learn_events(missing)
        return known | {event.id: event for event in missing}

    def accept_capacity(self, events: Sequence[EventFacts], capacity: int) -> dict[int, CapacityAnswer]:
        """Decide whether events may have fewer places: not fewer than are taken. All of them, up to one that may not.

        Told by the catalog before it lowers the capacity. From an acceptance on no more places are given out, until
        a later version of the event says how many there are. What was not known yet of these versions is learnt
        first, so that a late message about an earlier one does not undo it. The fullest event comes first: a refusal
        then rarely comes after an acceptance, which would have to be taken back.
        """
        self.learn_events(events)
        with self._work.statement() as store:
            taken = store.taken_places([event.id for event in events])
        answers: dict[int, CapacityAnswer] = {}
        for event in sorted(events, key=lambda each: -taken.get(each.id, 0)):
            answers[event.id] = self._accept_capacity(event, capacity)
            if not answers[event.id].accepted:
                break
        return answers

    def expire_offers(self) -> int:
        """Pass on the places of offers that have expired; the number of events that had some."""
        with self._work.statement() as store:
            event_ids = store.events_with_due_offers(self._clock(), SWEEP)
        for event_id in event_ids:
            self._settle(event_id)
        return len(event_ids)

    def of_event(self, event_id: int, query: PageQuery, caller: Caller) -> Page[Registration]:
        """All registrations for an event in the order in which they came, for its team.

        Raises NotFoundError, ForbiddenError for anyone else, InvalidInputError for a cursor of another list.
        """
        after = _position(query.cursor)

        def read() -> list[Registration]:
            with self._work() as (store, _):
                self._event_of_team(store, event_id, caller)
                return store.page_of_event(event_id, after, query.limit + 1)

        return _page(self._knowing(event_id, read), query.limit)

    def require_team(self, event_id: int, caller: Caller) -> EventPlaces:
        """The event, for its team. Raises NotFoundError, ForbiddenError for anyone else."""

        def read() -> EventPlaces:
            with self._work.statement() as store:
                return self._event_of_team(store, event_id, caller)

        return self._knowing(event_id, read)

    def of_user(self, query: PageQuery, caller: Caller) -> Page[Registration]:
        """One's own registrations, the latest first. Raises InvalidInputError for a cursor of another list."""
        before = _position(query.cursor)
        with self._work.statement() as store:
            return _page(store.page_of_user(caller.user_id, before, query.limit + 1), query.limit)

    def _register(self, event_id: int, user_id: int) -> Registration:
        """Each way in a transaction of its own: one that found no place may have locks that the next must not have."""
        try:
            return self._take_place(event_id, user_id, wait=False)
        except NoFreePlaceError as tried:
            places_are_busy = tried.may_have_room
        with suppress(NoFreePlaceError, _NotInLineError):
            if places_are_busy:
                return self._take_place(event_id, user_id, wait=True)
            return self._join_line(event_id, user_id)
        with suppress(_NotInLineError):
            return self._take_place_or_join_line(event_id, user_id)
        # More offers have expired than one transaction passes on.
        self._settle(event_id)
        return self._take_place_or_join_line(event_id, user_id)

    def _take_place(self, event_id: int, user_id: int, *, wait: bool) -> Registration:
        """In one round trip, so that what it locks is not locked for longer."""

        def change(store: RegistrationStore, recording: Recording) -> Registration:
            with _refusing_a_second_one():
                return store.take_place(recording, event_id, user_id, self._clock(), wait=wait)

        return self._work.run_at_once(Registration, str(event_id), change)

    def _join_line(self, event_id: int, user_id: int) -> Registration:
        """Raises _NotInLineError unless the event is open and full, as one where people wait mostly is."""

        def change(store: RegistrationStore, outbox: Appendable) -> Registration:
            store.lock_line(event_id)
            return self._wait(store, outbox, event_id, user_id, self._clock())

        return self._work.run(Registration, change)

    def _take_place_or_join_line(self, event_id: int, user_id: int) -> Registration:
        """A place in line; or a place after all, when one has been freed or an offer has expired."""

        def change(store: RegistrationStore, outbox: Appendable) -> Registration:
            now = self._clock()
            store.lock_line(event_id)
            event = self._event(store, event_id)
            self._check_open(event, now)
            if store.is_erased(user_id):
                raise UnauthenticatedError("The account has been erased.")
            if store.may_have_room(event_id, now):
                locked = LockedEvent(store, outbox, event, now, self._offer_lifetime)
                locked.settle()
                with _refusing_a_second_one():
                    placed = locked.register(user_id)
                locked.finish()
                if placed is not None:
                    return placed
            try:
                return self._wait(store, outbox, event_id, user_id, now)
            except _NotInLineError:
                self._check_open(self._event(store, event_id), now)  # no more, since a moment ago
                raise

        return self._work.run(Registration, change)

    @staticmethod
    def _wait(store: RegistrationStore, outbox: Appendable, event_id: int, user_id: int, now: datetime) -> Registration:
        with _refusing_a_second_one():
            waiting = store.add_waiting(event_id, user_id, now)
        if waiting is None:
            raise _NotInLineError
        registration, counts = waiting
        outbox.append(messages.registration_changed(registration, 1, counts, "waitlisted", user_id))
        return registration

    def _accept_capacity(self, event: EventFacts, capacity: int) -> CapacityAnswer:
        with self._work() as (store, outbox):
            store.lock_line(event.id)
            known = store.find_event(event.id)
            assert known is not None
            lowered = known.model_copy(update={"capacity": capacity})
            locked = LockedEvent(store, outbox, lowered, self._clock(), self._offer_lifetime)
            accepted = known.version == event.version and locked.taken <= capacity
            if accepted:
                store.set_capacity(event.id, capacity)
                locked.finish()
            return CapacityAnswer(accepted=accepted, taken=locked.taken)

    def _settle(self, event_id: int) -> None:
        more = True
        while more:
            with self._work() as (store, outbox):
                event = store.find_event(event_id)
                assert event is not None
                locked = LockedEvent(store, outbox, event, self._clock(), self._offer_lifetime)
                more = locked.settle()
                locked.finish()

    def _knowing(self, event_id: int, act: Callable[[], Result]) -> Result:
        """`act`, after asking the catalog when the event is not known here: its message may still be on the way."""
        try:
            return act()
        except UnknownEventError:
            self.learn_events([self._events.describe(event_id)])
        try:
            return act()
        except UnknownEventError as error:
            raise NotFoundError(f"There is no event {event_id}.") from error

    @staticmethod
    def _event(store: RegistrationStore, event_id: int) -> EventPlaces:
        """Raises UnknownEventError for an event that is not known here, or only as a draft."""
        event = store.find_event(event_id)
        if event is None or event.status == "draft":
            raise UnknownEventError
        return event

    def _event_of_team(self, store: RegistrationStore, event_id: int, caller: Caller) -> EventPlaces:
        event = self._event(store, event_id)
        if event.role_of(caller.user_id) is None:
            raise ForbiddenError("Only the event's team sees who has registered.")
        return event

    @staticmethod
    def _check_open(event: EventPlaces, now: datetime) -> None:
        if event.status != "published":
            raise ConflictError(f"Registration is closed: the event is {event.status}.")
        if event.starts_at <= now:
            raise ConflictError("Registration is closed: the event has started.")


@contextmanager
def _refusing_a_second_one() -> Iterator[None]:
    try:
        yield
    except AlreadyRegisteredError as error:
        raise ConflictError("You are already registered for this event.") from error


def _page(found: list[Registration], limit: int) -> Page[Registration]:
    """A page of those found, of which one more than the limit tells that there is a next."""
    items = found[:limit]
    last = items[-1] if len(found) > limit else None
    return Page(items=items, next_cursor=encode_cursor([last.registered_at.isoformat(), last.id]) if last else None)


def _position(cursor: str | None) -> Position | None:
    if not cursor:
        return None
    moment, last_id = decode_cursor(cursor, length=2)
    try:
        registered_at = datetime.fromisoformat(moment)
    except (TypeError, ValueError) as error:
        raise invalid_cursor() from error
    if registered_at.tzinfo is None or not isinstance(last_id, int):
        raise invalid_cursor()
    return registered_at, last_id
