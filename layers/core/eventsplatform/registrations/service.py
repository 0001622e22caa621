"""Registering for an event: a place while there is one, then a place in line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eventsplatform.clock import Clock
from eventsplatform.errors import ConflictError, NotFoundError, UnauthenticatedError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import Appendable, Work
from eventsplatform.registrations import messages
from eventsplatform.registrations.model import CapacityAnswer, EventPlaces, Registration


class AlreadyRegisteredError(Exception):
    """Raised by the store when the person already has a registration for the event."""


class UnknownEventError(Exception):
    """The event is not known here yet, or not open to the public."""


class ErasedAttendeeError(Exception):
    """Raised by the store when the person's account has been erased."""


class RegistrationStore(Protocol):
    def find_places(self, event_id: int, *, for_update: bool = False) -> EventPlaces | None:
        """The event's projection, on request locked until the transaction ends."""

    def put_places(self, places: Sequence[EventPlaces]) -> None:
        """Keep the catalog's side of each projection, in order, unless a later version is already there."""

    def lower_capacity(self, event_id: int, version: int, capacity: int) -> CapacityAnswer:
        """Give out no more than `capacity` places of this version of the event, if no more are taken."""

    def add(self, places: EventPlaces, user_id: int) -> tuple[Registration, EventPlaces]:
        """A registration in a free place or in line, and the counts after it.

        Raises AlreadyRegisteredError or ErasedAttendeeError.
        """


class EventDirectory(Protocol):
    """The catalog, as registrations asks it for an event it has not been told about yet."""

    def describe(self, event_id: int) -> EventPlaces:
        """Raises NotFoundError."""


class Registrations:
    def __init__(self, work: Work[RegistrationStore], events: EventDirectory, clock: Clock) -> None:
        self._work = work
        self._events = events
        self._clock = clock

    def register(self, event_id: int, caller: Caller) -> Registration:
        """Take a place, or a place in line when the event is full.

        Raises NotFoundError for an event that is not open to the public, ConflictError for one that is
        over or cancelled and for a second registration of the same person.
        """
        try:
            return self._take_place(event_id, caller)
        except UnknownEventError:
            # The catalog's message about the event may still be on the way.
            self.learn_events([self._events.describe(event_id)])
        try:
            return self._take_place(event_id, caller)
        except UnknownEventError as error:
            raise NotFoundError(f"There is no event {event_id}.") from error

    def learn_events(self, places: Sequence[EventPlaces]) -> None:
        """Project events, told by the catalog."""
        with self._work.statement() as store:
            store.put_places(places)

    def accept_capacity(self, places: EventPlaces, capacity: int) -> CapacityAnswer:
        """Decide whether an event may have fewer places: not fewer than are taken.

        Told by the catalog before it lowers the capacity. From an acceptance on no more places are given out, until
        a later version of the event says how many there are. What was not known yet of this version is learnt first,
        so that a late message about an earlier one does not undo it.
        """
        with self._work() as (store, _):
            store.put_places([places])
            return store.lower_capacity(places.event_id, places.version, capacity)

    def _take_place(self, event_id: int, caller: Caller) -> Registration:
        """Raises UnknownEventError for an event that is not known here, or only as a draft."""

        def change(store: RegistrationStore, outbox: Appendable) -> Registration:
            places = store.find_places(event_id, for_update=True)
            if places is None or places.status == "draft":
                raise UnknownEventError
            self._check_open(places)
            try:
                registration, places = store.add(places, caller.user_id)
            except AlreadyRegisteredError as error:
                raise ConflictError(f"You are already registered for event {event_id}.") from error
            except ErasedAttendeeError as error:
                raise UnauthenticatedError("The account has been erased.") from error
            what: messages.Happening = "created" if registration.status == "active" else "waitlisted"
            outbox.append(messages.registration_changed(registration, 1, places, what, caller.user_id))
            return registration

        return self._work.run(Registration, change)

    def _check_open(self, places: EventPlaces) -> None:
        if places.status != "published":
            raise ConflictError(f"Registration is closed: the event is {places.status}.")
        if places.starts_at <= self._clock():
            raise ConflictError("Registration is closed: the event has started.")
