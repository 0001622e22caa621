"""Who is let in at the door of an event, by the rules alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from eventsplatform.registrations.admission.model import (
    CLOCK_SKEW,
    SCANS_MAXIMUM,
    Attendance,
    CheckIn,
    CheckInRequest,
    Door,
    HeldTicket,
    RecordedCheckIn,
    Revocation,
    Scan,
    TicketClaims,
)
from eventsplatform.registrations.model import Registration

EVENT, ADA, GRACE, STAFF, COLLEAGUE = 42, 1, 2, 71, 72
NOW = datetime(2026, 5, 1, 19, tzinfo=UTC)
REGISTERED = NOW - timedelta(days=3)
MINUTE = timedelta(minutes=1)


def registration(number: int, **changes: Any) -> Registration:
    fields = {"id": number, "event_id": EVENT, "user_id": 900 + number, "status": "active", "position": None}
    return Registration.model_validate({**fields, "registered_at": REGISTERED, "offer_expires_at": None, **changes})


def attendance(number: int, *check_ins: RecordedCheckIn, revoked: Revocation | None = None) -> Attendance:
    return Attendance(registration(number), version=1, part=0, revoked=revoked, check_ins=check_ins)


def been(number: int, scan_id: UUID, *, undone: bool = False) -> RecordedCheckIn:
    check_in = CheckIn(
        registration_id=number,
        event_id=EVENT,
        user_id=900 + number,
        scan_id=scan_id,
        checked_in_at=NOW - 5 * MINUTE,
        checked_in_by=COLLEAGUE,
    )
    return RecordedCheckIn(check_in, 1, undone=undone)


def scan(number: int, at: datetime = NOW, *, serial: int = 1, scan_id: UUID | None = None) -> Scan:
    return Scan(scan_id or uuid4(), at, number, TicketClaims(EVENT, number, serial, REGISTERED))


def by_list(number: int, at: datetime = NOW) -> Scan:
    return Scan(uuid4(), at, number)


def door(*attendances: Attendance, **others: Any) -> Door:
    return Door({each.registration.id: each for each in attendances}, others.get("others", {}), STAFF)


def test_who_has_a_good_ticket_comes_in_and_it_is_noted_who_saw_it_and_when() -> None:
    at_the_door = door(attendance(ADA))

    result = at_the_door.admit(scan(ADA), NOW)

    assert result.outcome == "checked_in"
    assert result.check_in is not None
    assert (result.check_in.checked_in_by, result.check_in.checked_in_at) == (STAFF, NOW)
    assert [each.registration.id for each in at_the_door.admitted] == [ADA]


def test_the_same_ticket_lets_in_once_and_the_second_is_told_who_and_when() -> None:
    at_the_door = door(attendance(ADA), attendance(GRACE))

    first = at_the_door.admit(scan(ADA), NOW)
    second = at_the_door.admit(scan(ADA), NOW)
    other = at_the_door.admit(scan(GRACE), NOW)

    assert (first.outcome, second.outcome, other.outcome) == ("checked_in", "already_checked_in", "checked_in")
    assert second.check_in == first.check_in
    assert second.detail == "Already checked in at 2026-05-01T19:00:00Z by user 71."
    assert len(at_the_door.admitted) == 2


def test_a_scan_that_comes_again_is_the_scan_that_it_was() -> None:
    scan_id = uuid4()
    at_the_door = door(attendance(ADA, been(ADA, scan_id)))

    result = at_the_door.admit(scan(ADA, scan_id=scan_id), NOW)

    assert result.outcome == "checked_in"
    assert result.check_in == been(ADA, scan_id).check_in
    assert at_the_door.admitted == []


def test_a_scan_whose_check_in_was_undone_does_not_come_back_and_another_one_lets_in() -> None:
    scan_id = uuid4()
    at_the_door = door(attendance(ADA, been(ADA, scan_id, undone=True)))

    assert at_the_door.admit(scan(ADA, scan_id=scan_id), NOW).outcome == "undone"
    assert at_the_door.admit(scan(ADA), NOW).outcome == "checked_in"


@pytest.mark.parametrize(
    ("status", "outcome"), [("cancelled", "cancelled"), ("waitlisted", "waiting"), ("offered", "waiting")]
)
def test_who_has_no_place_is_not_let_in(status: str, outcome: str) -> None:
    at_the_door = door(others={ADA: status})

    assert at_the_door.admit(scan(ADA), NOW).outcome == outcome
    assert at_the_door.admit(by_list(ADA), NOW).outcome == outcome


def test_a_registration_that_is_not_there_is_unknown() -> None:
    assert door(attendance(ADA)).admit(by_list(GRACE), NOW).outcome == "unknown"


def test_someone_who_is_found_on_the_list_comes_in_without_a_ticket() -> None:
    result = door(attendance(ADA, revoked=Revocation(3, NOW))).admit(by_list(ADA), NOW)

    assert result.outcome == "checked_in"


# Tickets that were issued again -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("serial", "scanned", "outcome"),
    [
        (3, NOW, "checked_in"),
        (2, NOW, "revoked"),
        (1, NOW, "revoked"),
        # It was good when it was scanned, offline; of the ones before it is not known when they ended.
        (2, NOW - 11 * MINUTE, "checked_in"),
        (1, NOW - 11 * MINUTE, "revoked"),
    ],
)
def test_of_a_registrations_tickets_the_last_one_is_good(serial: int, scanned: datetime, outcome: str) -> None:
    at_the_door = door(attendance(ADA, revoked=Revocation(2, NOW - 10 * MINUTE)))

    assert at_the_door.admit(scan(ADA, scanned, serial=serial), NOW).outcome == outcome


def test_an_old_ticket_is_told_to_be_one_though_the_new_one_has_been_used() -> None:
    at_the_door = door(attendance(ADA, been(ADA, uuid4()), revoked=Revocation(1, NOW - MINUTE)))

    assert at_the_door.admit(scan(ADA, serial=1), NOW).outcome == "revoked"


def test_a_ticket_is_issued_with_the_next_serial_when_the_one_before_ended() -> None:
    first = HeldTicket(registration(ADA), None).claims
    second = HeldTicket(registration(ADA), Revocation(1, NOW)).claims

    assert (first.serial, first.issued_at) == (1, REGISTERED)
    assert (second.serial, second.issued_at) == (2, NOW)


# The time of a scan -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "outcome"),
    [
        (NOW + CLOCK_SKEW, "checked_in"),
        (NOW + CLOCK_SKEW + MINUTE, "implausible_time"),
        (REGISTERED - CLOCK_SKEW, "checked_in"),
        (REGISTERED - CLOCK_SKEW - MINUTE, "implausible_time"),
    ],
)
def test_a_scan_is_neither_to_come_nor_from_before_the_ticket(at: datetime, outcome: str) -> None:
    for each in (scan(ADA, at), by_list(ADA, at)):
        assert door(attendance(ADA)).admit(each, NOW).outcome == outcome


def test_nobody_has_come_later_than_now() -> None:
    result = door(attendance(ADA)).admit(scan(ADA, NOW + MINUTE), NOW)

    assert result.check_in is not None
    assert result.check_in.checked_in_at == NOW


# What may be asked ------------------------------------------------------------------------------

OFFLINE = {"scan_id": str(uuid4()), "scanned_at": "2026-05-01T18:00:00Z"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"token": "x", "registration_id": 1},
        {"token": "x", "scans": [{**OFFLINE, "token": "x"}]},
        {"scans": []},
        {"scans": [OFFLINE]},
        {"scans": [{**OFFLINE, "token": "x", "registration_id": 1}]},
        {"scans": [{**OFFLINE, "token": "x"}], "scan_id": OFFLINE["scan_id"]},
        {"scans": [{**OFFLINE, "token": "x"}] * (SCANS_MAXIMUM + 1)},
        {"scans": [{"token": "x", "scan_id": OFFLINE["scan_id"]}]},
        {"scans": [{**OFFLINE, "token": "x", "scanned_at": 1777660200}]},
        {"token": "x", "scanned_at": OFFLINE["scanned_at"]},
        {"registration_id": 0},
        {"registration_id": 1, "checked_in_by": 7},
        {"token": "x" * 401},
    ],
)
def test_what_is_neither_one_ticket_nor_a_list_of_scans_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CheckInRequest.model_validate(body)


@pytest.mark.parametrize(
    "body",
    [{"token": "x"}, {"registration_id": 1, "scan_id": OFFLINE["scan_id"]}, {"scans": [{**OFFLINE, "token": "x"}]}],
)
def test_one_ticket_or_a_list_of_scans_is_taken(body: dict[str, Any]) -> None:
    CheckInRequest.model_validate(body)
