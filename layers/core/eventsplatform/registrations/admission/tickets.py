"""One's ticket for an event: signed, so that it is checked at the door without asking anyone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from eventsplatform.clock import Clock
from eventsplatform.errors import ConflictError, NotFoundError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import Appendable, Work
from eventsplatform.registrations.admission.model import EventTicket, HeldTicket, TicketEvent, TicketKey
from eventsplatform.registrations.admission.tokens import public_keys, sign
from eventsplatform.registrations.model import EventFacts
from eventsplatform.signing_keys import KeySet

_WITHOUT_A_TICKET = {
    "waitlisted": "You are on the waitlist; a ticket comes with a place.",
    "offered": "A place is offered to you; a ticket comes with accepting it.",
    "cancelled": "The registration has been cancelled, and its ticket with it.",
}


class TicketStore(Protocol):
    def find_ticket(self, registration_id: int) -> HeldTicket | None: ...

    def lock_registration(self, registration_id: int) -> None: ...

    def revoke_tickets(self, event_id: int, registration_ids: Sequence[int], at: datetime) -> None:
        """End the present ticket of each, which is a change for the devices at the event's door to learn."""

    def add_first_ticket_keys(self, keys: Sequence[TicketKey]) -> list[str]:
        """Keep them if there are none yet; the ids of those that there are then."""


class Tickets:
    def __init__(
        self,
        work: Work[TicketStore],
        keys: Callable[[], KeySet],
        keys_anew: Callable[[], KeySet],
        events: Callable[[Sequence[int]], Mapping[int, EventFacts]],
        clock: Clock,
    ) -> None:
        """`events` is `Registrations.facts_of`; `keys_anew` reads the keys past the cache that `keys` has."""
        self._work = work
        self._keys = keys
        self._keys_anew = keys_anew
        self._events = events
        self._clock = clock
        self._verifiable: set[str] = set()

    def of(self, registration_id: int, caller: Caller) -> EventTicket:
        """One's own ticket. Raises NotFoundError, or ConflictError for a registration that has none."""
        keys = self._signing_keys()
        held = self._held(registration_id, caller)
        return _signed(held, self._event_of(held), keys)

    def reissue(self, registration_id: int, caller: Caller) -> EventTicket:
        """Another ticket in place of one that others may have got hold of, which is no good any more.

        Raises NotFoundError, or ConflictError for a registration that has none or has been checked in.
        """
        keys = self._signing_keys()
        event = self._event_of(self._held(registration_id, caller))

        def change(store: TicketStore, _outbox: Appendable) -> HeldTicket:
            store.lock_registration(registration_id)
            held = _own(store.find_ticket(registration_id), registration_id, caller)
            if held.registration.status == "checked_in":
                raise ConflictError("You have been checked in; the ticket has done its work.")
            store.revoke_tickets(event.id, [registration_id], self._clock())
            return _own(store.find_ticket(registration_id), registration_id, caller)

        return _signed(self._work.run(HeldTicket, change), event, keys)

    def _held(self, registration_id: int, caller: Caller) -> HeldTicket:
        with self._work.statement() as store:
            return _own(store.find_ticket(registration_id), registration_id, caller)

    def _event_of(self, held: HeldTicket) -> EventFacts:
        event_id = held.registration.event_id
        event = self._events([event_id])[event_id]
        if event.status == "cancelled":
            raise ConflictError("The event has been cancelled.")
        return event

    def _signing_keys(self) -> KeySet:
        """Keys whose active one verifiers know. Reading them may be a call, for which no transaction waits."""
        keys = self._keys()
        if keys["active"] in self._verifiable:
            return keys
        with self._work.statement() as store:
            self._verifiable = set(store.add_first_ticket_keys(public_keys(keys)))
        return keys if keys["active"] in self._verifiable else self._keys_anew()


def _signed(held: HeldTicket, event: EventFacts, keys: KeySet) -> EventTicket:
    claims = held.claims
    return EventTicket(
        registration_id=held.registration.id,
        serial=claims.serial,
        status="checked_in" if held.registration.status == "checked_in" else "active",
        issued_at=claims.issued_at,
        token=sign(claims, keys),
        event=TicketEvent.model_validate(event.model_dump(include=set(TicketEvent.model_fields))),
    )


def _own(held: HeldTicket | None, registration_id: int, caller: Caller) -> HeldTicket:
    if held is None or held.registration.user_id != caller.user_id:
        raise NotFoundError(f"There is no registration {registration_id}.")
    if (refusal := _WITHOUT_A_TICKET.get(held.registration.status)) is not None:
        raise ConflictError(refusal)
    return held
