"""Letting people in: tickets that are scanned at the door, by devices that are online or were not; taking it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from datetime import datetime
from typing import Protocol, TypeVar

from eventsplatform.clock import Clock
from eventsplatform.errors import ConflictError, FieldError, ForbiddenError, InvalidInputError, NotFoundError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import Appendable, Work
from eventsplatform.pagination import Page, decode_cursor, encode_cursor, invalid_cursor
from eventsplatform.registrations.admission import messages
from eventsplatform.registrations.admission.model import (
    CHANGES_MAXIMUM,
    Attendance,
    CheckIn,
    CheckInRequest,
    Door,
    DoorBundle,
    DoorChanges,
    DoorQuery,
    DoorState,
    OfflineScan,
    RecordedCheckIn,
    Scan,
    ScanResult,
    SyncedScans,
    TicketKey,
)
from eventsplatform.registrations.admission.tokens import ForgedTicketError, TicketReader
from eventsplatform.registrations.model import EventPlaces, PageQuery, Part, RegistrationStatus
from eventsplatform.registrations.service import UnknownEventError

Result = TypeVar("Result")


class CheckInStore(Protocol):
    def find_event(self, event_id: int) -> EventPlaces | None: ...

    def ticket_keys(self) -> list[TicketKey]:
        """The public halves of all keys that tickets may be signed with."""

    def lock_attendances(self, event_id: int, registration_ids: Sequence[int]) -> dict[int, Attendance]:
        """Those of the registrations that hold a place; nobody else changes them until the transaction ends."""

    def statuses(self, event_id: int, registration_ids: Sequence[int]) -> dict[int, RegistrationStatus]: ...

    def check_in(self, event_id: int, admitted: Sequence[Attendance]) -> tuple[list[Attendance], int]:
        """Note who has come, each as it is then; and how many people of the event have come by now."""

    def undo_check_in(
        self, event_id: int, attendance: Attendance, actor_id: int, at: datetime
    ) -> tuple[Attendance, int]: ...

    def parts(self, event_id: int) -> list[Part]:
        """The event's places as they are, by number."""

    def door_state(self, event_id: int) -> DoorState: ...

    def door_changes(self, event_id: int, since: int, until: int, limit: int) -> DoorChanges:
        """Those with a number after `since`, up to `until` or as many as the limit allows."""

    def page_of_check_ins(self, event_id: int, before: int | None, limit: int) -> list[RecordedCheckIn]:
        """Who is checked in, the last change first, from one before a number on."""


class CheckIns:
    """`learn` asks the catalog for an event and keeps what it tells. Raises NotFoundError."""

    def __init__(self, work: Work[CheckInStore], learn: Callable[[int], None], clock: Clock) -> None:
        self._work = work
        self._learn = learn
        self._clock = clock

    def check_in(self, event_id: int, request: CheckInRequest, caller: Caller) -> CheckIn:
        """Let someone in now.

        Raises NotFoundError; ForbiddenError for anyone but the event's team; InvalidInputError for a token that is no
        ticket of the event; ConflictError, with the check-in that was before, for a ticket that lets nobody in.
        """
        read = self._read(event_id, [request.as_scan(self._clock())])

        def change(store: CheckInStore, outbox: Appendable) -> CheckIn:
            (result,) = self._admit(store, outbox, event_id, read, caller)
            if result.check_in is None or result.outcome != "checked_in":
                raise _refusal(result)
            return result.check_in

        return self._knowing(event_id, lambda: self._work.run(CheckIn, change))

    def sync(self, event_id: int, scans: Sequence[OfflineScan], caller: Caller) -> SyncedScans:
        """What becomes of scans that were made offline; sent again, they have the same results.

        Raises NotFoundError, ForbiddenError for anyone but the event's team, ConflictError for a cancelled event.
        """
        read = self._read(event_id, scans)

        def change(store: CheckInStore, outbox: Appendable) -> SyncedScans:
            return SyncedScans(items=self._admit(store, outbox, event_id, read, caller))

        return self._knowing(event_id, lambda: self._work.run(SyncedScans, change))

    def undo(self, event_id: int, registration_id: int, caller: Caller) -> None:
        """Take back a check-in that was a mistake: the ticket lets in again.

        Raises NotFoundError, ForbiddenError for anyone but the event's team, ConflictError for a cancelled event.
        """

        def change(store: CheckInStore, outbox: Appendable) -> None:
            event = _event_of_team(store, event_id, caller)
            _check_open(event)
            attendance = store.lock_attendances(event_id, [registration_id]).get(registration_id)
            if attendance is None or attendance.check_in is None:
                raise NotFoundError(f"The registration {registration_id} is not checked in.")
            undone, present = store.undo_check_in(event_id, attendance, caller.user_id, self._clock())
            self._tell(store, outbox, event, [undone], present, caller)

        self._knowing(event_id, lambda: self._work.run(None, change))

    def of_event(self, event_id: int, query: PageQuery, caller: Caller) -> Page[CheckIn]:
        """Who is in, the last one first. Raises NotFoundError, ForbiddenError, InvalidInputError for a cursor."""
        before = _number(query.cursor)

        def read() -> list[RecordedCheckIn]:
            with self._work() as (store, _):
                _event_of_team(store, event_id, caller)
                return store.page_of_check_ins(event_id, before, query.limit + 1)

        found = self._knowing(event_id, read)
        items = found[: query.limit]
        next_cursor = encode_cursor([items[-1].number]) if len(found) > query.limit else None
        return Page(items=[each.check_in for each in items], next_cursor=next_cursor)

    def bundle(self, event_id: int, query: DoorQuery, caller: Caller) -> DoorBundle:
        """What a device has to know to check tickets while it is offline. Raises NotFoundError, ForbiddenError."""

        def read() -> DoorBundle:
            with self._work() as (store, _):
                event = _event_of_team(store, event_id, caller)
                keys = store.ticket_keys()
                # What comes in between has a number beyond, and is for the next answer.
                state = store.door_state(event_id)
                changes = store.door_changes(event_id, query.since, state.number, CHANGES_MAXIMUM)
            return DoorBundle(
                event_id=event_id,
                status=event.status,
                attendees=state.attendees,
                checked_in=state.checked_in,
                keys=keys,
                revoked=changes.revoked,
                check_ins=changes.check_ins,
                until=changes.until,
                more=changes.until < state.number,
            )

        return self._knowing(event_id, read)

    def _read(self, event_id: int, scans: Sequence[OfflineScan]) -> list[Scan | ScanResult]:
        """What the scans say, with the result of those that need no look at registrations."""
        keys: list[TicketKey] = []
        if any(scan.token is not None for scan in scans):
            with self._work.statement() as store:
                keys = store.ticket_keys()
        reader = TicketReader(keys)
        return [_read(scan, reader, event_id) for scan in scans]

    def _admit(
        self,
        store: CheckInStore,
        outbox: Appendable,
        event_id: int,
        read: Sequence[Scan | ScanResult],
        caller: Caller,
    ) -> list[ScanResult]:
        """Results in the order of the scans; those scanned first come in first."""
        event = _event_of_team(store, event_id, caller)
        _check_open(event)
        scans = [(place, each) for place, each in enumerate(read) if isinstance(each, Scan)]
        door = self._door(store, event_id, {scan.registration_id for _, scan in scans}, caller)
        now = self._clock()
        results = {place: door.admit(scan, now) for place, scan in sorted(scans, key=lambda each: each[1].at)}
        if door.admitted:
            admitted, present = store.check_in(event_id, door.admitted)
            self._tell(store, outbox, event, admitted, present, caller)
        return [results[place] if isinstance(each, Scan) else each for place, each in enumerate(read)]

    @staticmethod
    def _door(store: CheckInStore, event_id: int, registration_ids: Set[int], caller: Caller) -> Door:
        attendances = store.lock_attendances(event_id, sorted(registration_ids))
        others = sorted(registration_ids - attendances.keys())
        return Door(attendances, store.statuses(event_id, others) if others else {}, caller.user_id)

    @staticmethod
    def _tell(
        store: CheckInStore,
        outbox: Appendable,
        event: EventPlaces,
        changed: Sequence[Attendance],
        present: int,
        caller: Caller,
    ) -> None:
        parts = store.parts(event.event_id)
        for attendance in changed:
            outbox.append(messages.attendance_changed(attendance, event.capacity, parts, present, caller.user_id))

    def _knowing(self, event_id: int, act: Callable[[], Result]) -> Result:
        """`act`, after asking the catalog when the event is not known here: its message may still be on the way."""
        try:
            return act()
        except UnknownEventError:
            self._learn(event_id)
        try:
            return act()
        except UnknownEventError as error:
            raise NotFoundError(f"There is no event {event_id}.") from error


def _read(scan: OfflineScan, reader: TicketReader, event_id: int) -> Scan | ScanResult:
    if scan.token is None:
        assert scan.registration_id is not None
        return Scan(scan.scan_id, scan.scanned_at, scan.registration_id)
    try:
        claims = reader.read(scan.token)
    except ForgedTicketError:
        return ScanResult(scan_id=scan.scan_id, outcome="forged", detail="This is not a ticket that was issued here.")
    if claims.event_id != event_id:
        return ScanResult(scan_id=scan.scan_id, outcome="other_event", detail="This is a ticket for another event.")
    return Scan(scan.scan_id, scan.scanned_at, claims.registration_id, claims)


def _event_of_team(store: CheckInStore, event_id: int, caller: Caller) -> EventPlaces:
    """Raises UnknownEventError for an event that is not known here, or only as a draft; ForbiddenError for others."""
    event = store.find_event(event_id)
    if event is None or event.status == "draft":
        raise UnknownEventError
    if event.role_of(caller.user_id) is None:
        raise ForbiddenError("Only the event's team checks people in.")
    return event


def _check_open(event: EventPlaces) -> None:
    """Long before the event too, for doors are tried out; and after it, for devices may have been offline."""
    if event.status not in ("published", "completed"):
        raise ConflictError(f"The event is {event.status}: nobody is checked in.")


def _refusal(result: ScanResult) -> Exception:
    match result.outcome:
        case "unknown":
            return NotFoundError(result.detail)
        case "forged" | "other_event":
            return InvalidInputError([FieldError("/token", result.detail)], result.detail)
        case _:
            before = {"check_in": result.check_in.model_dump(mode="json")} if result.check_in else {}
            return ConflictError(result.detail, outcome=result.outcome, **before)


def _number(cursor: str | None) -> int | None:
    if not cursor:
        return None
    (number,) = decode_cursor(cursor, length=1)
    if not isinstance(number, int):
        raise invalid_cursor()
    return number
