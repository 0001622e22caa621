"""Tickets, what devices at an event's door know of them, and who comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eventsplatform.clock import rfc3339
from eventsplatform.fields import Moment
from eventsplatform.registrations.model import Organizer, Place, Registration, RegistrationStatus

# A token has about 210 characters: more would not fit a QR code that is read at a glance.
TOKEN_MAXIMUM = 400

# In one request; it has to fit into 64 KB.
SCANS_MAXIMUM = 100

# Of what has changed at the door, in one answer.
CHANGES_MAXIMUM = 1_000

# How far the clock of a device may be off.
CLOCK_SKEW = timedelta(minutes=2)

TicketToken = Annotated[str, Field(max_length=TOKEN_MAXIMUM, description="What the ticket's QR code says.")]
RegistrationId = Annotated[int, Field(ge=1, le=2**63 - 1)]


# Tickets ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TicketClaims:
    """What a ticket's token says: the ticket of a registration with the highest serial is the good one."""

    event_id: int
    registration_id: int
    serial: int
    issued_at: datetime


@dataclass(frozen=True)
class Revocation:
    """The end of a registration's tickets up to this serial."""

    serial: int
    at: datetime

    def holds(self, claims: TicketClaims, at: datetime) -> bool:
        """Whether the ticket was no good at that moment. Of a ticket before the last one it is not known since when."""
        return claims.serial < self.serial or (claims.serial == self.serial and self.at <= at)


@dataclass(frozen=True)
class HeldTicket:
    """A registration, and what is known of its tickets."""

    registration: Registration
    revoked: Revocation | None

    @property
    def claims(self) -> TicketClaims:
        """Those of the one ticket that is good while the registration has a place. The same ticket, the same claims."""
        registered = self.registration
        if self.revoked is None:
            return TicketClaims(registered.event_id, registered.id, 1, registered.registered_at)
        return TicketClaims(registered.event_id, registered.id, self.revoked.serial + 1, self.revoked.at)


class TicketEvent(BaseModel):
    """What of an event a ticket shows."""

    id: int
    title: str
    starts_at: datetime
    ends_at: datetime
    timezone: str
    location: Place
    organizer: Organizer


class EventTicket(BaseModel):
    registration_id: int
    serial: int = Field(description="Grows when the ticket is issued again, which ends those before.")
    status: Literal["active", "checked_in"]
    issued_at: datetime
    token: str = Field(description="A JWS, signed with Ed25519: what the QR code says.")
    event: TicketEvent


class TicketKey(BaseModel):
    """The public half of a key that signs tickets: a JSON Web Key (RFC 8037)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    use: Literal["sig"] = "sig"
    alg: Literal["EdDSA"] = "EdDSA"
    kid: str
    x: str


# At the door ------------------------------------------------------------------------------------


class CheckIn(BaseModel):
    """Someone has come: when, and who of the event's team saw it."""

    registration_id: int
    event_id: int
    user_id: int
    scan_id: UUID
    checked_in_at: datetime
    checked_in_by: int


class _Scanned(BaseModel):
    """A ticket that was scanned, or someone who was found on the list."""

    model_config = ConfigDict(extra="forbid")

    token: TicketToken | None = None
    registration_id: RegistrationId | None = None


class OfflineScan(_Scanned):
    """A scan that a device made while it was offline. `scan_id` is of its making, and the same in every repeat."""

    scan_id: UUID
    scanned_at: Moment

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.token is None) == (self.registration_id is None):
            raise ValueError("give either token or registration_id")
        return self


class CheckInRequest(_Scanned):
    """Whom to check in now, or the scans that a device made while it was offline."""

    scan_id: UUID | None = None
    scans: Annotated[list[OfflineScan], Field(min_length=1, max_length=SCANS_MAXIMUM)] | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if [self.token, self.registration_id, self.scans].count(None) != 2:
            raise ValueError("give either token or registration_id, or scans")
        if self.scans is not None and self.scan_id is not None:
            raise ValueError("each of the scans has a scan_id of its own")
        return self

    def as_scan(self, now: datetime) -> OfflineScan:
        return OfflineScan(
            token=self.token, registration_id=self.registration_id, scan_id=self.scan_id or uuid4(), scanned_at=now
        )


Outcome = Literal[
    "checked_in",
    "already_checked_in",
    "undone",
    "revoked",
    "cancelled",
    "waiting",
    "implausible_time",
    "unknown",
    "other_event",
    "forged",
]


class ScanResult(BaseModel):
    """What became of a scan. `check_in` is the one that it made, or the one that was there before."""

    scan_id: UUID
    outcome: Outcome
    detail: str
    registration_id: int | None = None
    check_in: CheckIn | None = None


class SyncedScans(BaseModel):
    """The results of offline scans, in the order in which they were sent."""

    items: list[ScanResult]


@dataclass(frozen=True)
class Scan:
    """A scan that has been read: of a ticket of the event, or without one of somebody on the list."""

    id: UUID
    at: datetime
    registration_id: int
    claims: TicketClaims | None = None


@dataclass(frozen=True)
class RecordedCheckIn:
    """`number` is its place among the changes at the door, the last one when it was undone."""

    check_in: CheckIn
    number: int
    undone: bool = False


@dataclass(frozen=True)
class Attendance:
    """A registration that holds a place of the event, and all its check-ins; nobody else changes it meanwhile."""

    registration: Registration
    version: int
    part: int
    revoked: Revocation | None
    check_ins: Sequence[RecordedCheckIn]

    @property
    def check_in(self) -> CheckIn | None:
        return next((each.check_in for each in self.check_ins if not each.undone), None)

    def of_scan(self, scan_id: UUID) -> RecordedCheckIn | None:
        return next((each for each in self.check_ins if each.check_in.scan_id == scan_id), None)


class Door:
    """Lets in who has a good ticket, once. `others` are registrations of the event that hold no place."""

    def __init__(
        self, attendances: Mapping[int, Attendance], others: Mapping[int, RegistrationStatus], actor_id: int
    ) -> None:
        self._attendances = dict(attendances)
        self._others = others
        self._actor_id = actor_id
        self.admitted: list[Attendance] = []

    def admit(self, scan: Scan, now: datetime) -> ScanResult:
        attendance = self._attendances.get(scan.registration_id)
        if attendance is None:
            return self._without_place(scan)
        if (before := attendance.of_scan(scan.id)) is not None:
            return _undone(scan) if before.undone else _admitted(scan, before.check_in)
        if (
            scan.claims is not None
            and attendance.revoked is not None
            and attendance.revoked.holds(scan.claims, scan.at)
        ):
            return _refused(scan, "revoked", "The ticket has been issued again; this one is no good any more.")
        if (present := attendance.check_in) is not None:
            return _already(scan, present)
        since = scan.claims.issued_at if scan.claims else attendance.registration.registered_at
        if not since - CLOCK_SKEW <= scan.at <= now + CLOCK_SKEW:
            detail = f"The clock of the device is wrong: a scan at {rfc3339(scan.at)} cannot be."
            return _refused(scan, "implausible_time", detail)
        return self._let_in(scan, attendance, min(scan.at, now))

    def _let_in(self, scan: Scan, attendance: Attendance, at: datetime) -> ScanResult:
        check_in = CheckIn(
            registration_id=scan.registration_id,
            event_id=attendance.registration.event_id,
            user_id=attendance.registration.user_id,
            scan_id=scan.id,
            checked_in_at=at,
            checked_in_by=self._actor_id,
        )
        present = replace(attendance, check_ins=[*attendance.check_ins, RecordedCheckIn(check_in, number=0)])
        self._attendances[scan.registration_id] = present
        self.admitted.append(present)
        return _admitted(scan, check_in)

    def _without_place(self, scan: Scan) -> ScanResult:
        match self._others.get(scan.registration_id):
            case None:
                return _refused(scan, "unknown", f"There is no registration {scan.registration_id} for this event.")
            case "cancelled":
                return _refused(scan, "cancelled", "The registration has been cancelled.")
            case _:
                return _refused(scan, "waiting", "The registration has no place yet.")


def _admitted(scan: Scan, check_in: CheckIn) -> ScanResult:
    return _result(scan, "checked_in", "Checked in.", check_in)


def _already(scan: Scan, check_in: CheckIn) -> ScanResult:
    who_and_when = f"at {rfc3339(check_in.checked_in_at)} by user {check_in.checked_in_by}"
    return _result(scan, "already_checked_in", f"Already checked in {who_and_when}.", check_in)


def _undone(scan: Scan) -> ScanResult:
    return _refused(scan, "undone", "This check-in was made, and has been undone since; scan the ticket again.")


def _refused(scan: Scan, outcome: Outcome, detail: str) -> ScanResult:
    return _result(scan, outcome, detail, None)


def _result(scan: Scan, outcome: Outcome, detail: str, check_in: CheckIn | None) -> ScanResult:
    return ScanResult(
        scan_id=scan.id, outcome=outcome, detail=detail, registration_id=scan.registration_id, check_in=check_in
    )


# What devices take with them --------------------------------------------------------------------


class DoorQuery(BaseModel):
    """The query string of the bundle."""

    model_config = ConfigDict(extra="forbid")

    since: int = Field(default=0, ge=0, le=2**63 - 1, description="`until` of the last answer; 0 for all there is.")


class RevokedTicket(BaseModel):
    """The tickets of this registration with this serial, or a lower one, are no good."""

    registration_id: int
    serial: int


class DoorChange(BaseModel):
    """Someone has come; or has not after all, when `checked_in_at` is null: the last one about a registration holds."""

    registration_id: int
    checked_in_at: datetime | None
    checked_in_by: int | None


@dataclass(frozen=True)
class DoorState:
    """`number` counts what has changed at the door: check-ins, what was undone of them, and tickets' ends."""

    attendees: int
    checked_in: int
    number: int


@dataclass(frozen=True)
class DoorChanges:
    """All changes up to the number `until`, in order."""

    revoked: list[RevokedTicket]
    check_ins: list[DoorChange]
    until: int


class DoorBundle(BaseModel):
    """All that a device needs to check tickets while it is offline, as far as it has changed since the last answer."""

    event_id: int
    status: str
    attendees: int = Field(description="How many people hold a ticket.")
    checked_in: int = Field(description="How many of them have come.")
    keys: list[TicketKey]
    revoked: list[RevokedTicket]
    check_ins: list[DoorChange]
    until: int = Field(description="What to ask for next with `since`.")
    more: bool = Field(description="Whether to ask at once: there is more than fits into one answer.")
