"""One's ticket: who gets one, what it says, and what ends it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from eventsplatform.errors import ConflictError, NotFoundError
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.registrations.admission.model import DoorQuery, EventTicket
from eventsplatform.registrations.admission.tokens import TicketReader, public_keys
from tests.support.callers import caller
from tests.support.database import TICKET_KEYS, Services, administrator, services
from tests.support.doors import by_list, project
from tests.support.recount import violations

ORGANIZER, ADA, GRACE, ALAN = 81, 91, 92, 93


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


def register(running: Services, event_id: int, person: int) -> int:
    return running.registrations.register(event_id, caller(person)).id


def ticket_of(running: Services, registration_id: int, person: int) -> EventTicket:
    return running.tickets.of(registration_id, caller(person))


def test_a_ticket_says_what_it_is_for_and_its_token_the_same(running: Services) -> None:
    event_id = running.published_event(ORGANIZER, title="A concert", timezone="Europe/Berlin")
    registered = running.registrations.register(event_id, caller(ADA))

    ticket = ticket_of(running, registered.id, ADA)

    assert (ticket.registration_id, ticket.serial, ticket.status) == (registered.id, 1, "active")
    assert (ticket.event.id, ticket.event.title, ticket.event.timezone) == (event_id, "A concert", "Europe/Berlin")
    claims = TicketReader(public_keys(TICKET_KEYS)).read(ticket.token)
    assert (claims.event_id, claims.registration_id, claims.serial) == (event_id, registered.id, 1)
    assert abs(claims.issued_at - registered.registered_at) < timedelta(seconds=1)


def test_asked_for_again_it_is_the_same_ticket(running: Services) -> None:
    registration_id = register(running, running.published_event(ORGANIZER), ADA)

    assert ticket_of(running, registration_id, ADA) == ticket_of(running, registration_id, ADA)


@pytest.mark.parametrize("person", [GRACE, ORGANIZER])
def test_a_ticket_of_others_is_not_there(running: Services, person: int) -> None:
    registration_id = register(running, running.published_event(ORGANIZER), ADA)

    for act in (running.tickets.of, running.tickets.reissue):
        with pytest.raises(NotFoundError, match=f"There is no registration {registration_id}"):
            act(registration_id, caller(person))
        with pytest.raises(NotFoundError):
            act(2**62, caller(person))


def test_a_ticket_comes_with_a_place_and_goes_with_it(running: Services) -> None:
    event_id = running.published_event(ORGANIZER, capacity=1)
    ada, grace = register(running, event_id, ADA), register(running, event_id, GRACE)

    with pytest.raises(ConflictError, match="waitlist"):
        ticket_of(running, grace, GRACE)

    running.registrations.cancel(event_id, caller(ADA))
    with pytest.raises(ConflictError, match="cancelled"):
        ticket_of(running, ada, ADA)
    with pytest.raises(ConflictError, match="offered"):
        ticket_of(running, grace, GRACE)

    running.registrations.accept(event_id, caller(GRACE))
    assert ticket_of(running, grace, GRACE).serial == 1


def test_there_are_no_tickets_for_a_cancelled_event(running: Services) -> None:
    event_id = running.published_event(ORGANIZER)
    registration_id = register(running, event_id, ADA)
    running.catalog.cancel(event_id, None, caller(ORGANIZER))
    project(running, event_id)

    for act in (running.tickets.of, running.tickets.reissue):
        with pytest.raises(ConflictError, match="The event has been cancelled"):
            act(registration_id, caller(ADA))


def test_a_ticket_that_is_issued_again_is_another_and_the_one_before_is_revoked(
    running: Services, migrated_database: str
) -> None:
    event_id = running.published_event(ORGANIZER)
    registration_id = register(running, event_id, ADA)
    first = ticket_of(running, registration_id, ADA)

    second = running.tickets.reissue(registration_id, caller(ADA))

    assert second.serial == 2
    assert second.token != first.token
    assert second == ticket_of(running, registration_id, ADA)
    assert revoked(running, event_id) == {registration_id: 1}
    running.tickets.reissue(registration_id, caller(ADA))
    assert revoked(running, event_id) == {registration_id: 2}
    assert violations(migrated_database, event_id, 100) == []


def test_a_repeated_request_issues_no_third_ticket(running: Services) -> None:
    event_id = running.published_event(ORGANIZER)
    registration_id = register(running, event_id, ADA)

    first, again = (reissued(running, registration_id, key="reissue-1") for _ in range(2))

    assert first == again
    assert first.serial == 2
    assert reissued(running, registration_id, key="reissue-2").serial == 3


def test_who_is_checked_in_still_has_the_ticket_but_gets_no_other(running: Services) -> None:
    event_id = running.published_event(ORGANIZER)
    registration_id = register(running, event_id, ADA)
    running.check_ins.check_in(event_id, by_list(registration_id), caller(ORGANIZER))

    assert ticket_of(running, registration_id, ADA).status == "checked_in"
    with pytest.raises(ConflictError, match="checked in"):
        running.tickets.reissue(registration_id, caller(ADA))


def test_whoever_cancels_and_registers_again_has_another_ticket(running: Services, migrated_database: str) -> None:
    event_id = running.published_event(ORGANIZER)
    first = register(running, event_id, ADA)
    before = ticket_of(running, first, ADA)

    running.registrations.cancel(event_id, caller(ADA))
    second = register(running, event_id, ADA)

    assert ticket_of(running, second, ADA).token != before.token
    assert revoked(running, event_id) == {first: 1}
    assert violations(migrated_database, event_id, 100) == []


def test_only_tickets_that_there_were_are_revoked(running: Services) -> None:
    """Places in line and offers had none: the list stays short."""
    event_id = running.published_event(ORGANIZER, capacity=1)
    ada = register(running, event_id, ADA)
    register(running, event_id, GRACE)
    register(running, event_id, ALAN)

    running.registrations.cancel(event_id, caller(ALAN))
    running.registrations.cancel(event_id, caller(ADA))
    running.registrations.cancel(event_id, caller(GRACE))

    assert revoked(running, event_id) == {ada: 1}


def test_the_keys_of_the_first_one_to_sign_are_there_for_those_who_verify(migrated_database: str) -> None:
    with administrator(migrated_database) as connection:
        connection.execute("TRUNCATE registrations.ticket_keys")
    with services(migrated_database) as running:
        event_id = running.published_event(ORGANIZER)
        ticket_of(running, register(running, event_id, ADA), ADA)
        bundle = running.check_ins.bundle(event_id, DoorQuery(), caller(ORGANIZER))

    assert bundle.keys == public_keys(TICKET_KEYS)


def reissued(running: Services, registration_id: int, *, key: str) -> EventTicket:
    path = f"/v1/registrations/{registration_id}/ticket"
    with handling_request(
        NamedRequest.of(caller=str(ADA), method="POST", path=path, key=key, content=b"", secret=False)
    ):
        return running.tickets.reissue(registration_id, caller(ADA))


def revoked(running: Services, event_id: int) -> dict[int, int]:
    bundle = running.check_ins.bundle(event_id, DoorQuery(), caller(ORGANIZER))
    return {each.registration_id: each.serial for each in bundle.revoked}
