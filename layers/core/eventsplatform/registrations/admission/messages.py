"""The messages of the door, on `evp.registrations.v1` like all that happens to registrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from eventsplatform.messaging.model import Change
from eventsplatform.messaging.schemas import Schema, told
from eventsplatform.registrations.admission.model import Attendance, CheckIn
from eventsplatform.registrations.messages import ToldRegistration
from eventsplatform.registrations.model import Counts, Part, Places

Happening = Literal["checked_in", "check_in_undone"]


class ToldCounts(Counts):
    """The counts of an event, and how many of those who have a place have come."""

    checked_in: int = 0


class ToldAttendance(ToldRegistration):
    """A registration as it is after a check-in, or after that was undone, and the check-in."""

    counts: ToldCounts
    check_in: CheckIn | None = None


def schemas() -> Mapping[str, Schema]:
    """What the data of each type look like."""
    return dict.fromkeys((f"registrations.{what}" for what in get_args(Happening)), told(ToldAttendance))


def attendance_changed(
    attendance: Attendance, capacity: int, parts: Sequence[Part], checked_in: int, actor_id: int
) -> Change:
    """Someone has come, or has not after all: the last of the check-ins. No count changes but that of who has come.

    Of the event's places the part that the registration is in is told as it is, in the version it has: a projection
    that keeps the latest version of each part learns nothing new, and loses nothing.
    """
    registration, last = attendance.registration, attendance.check_ins[-1]
    counts = Places(parts).counts(capacity)
    own_part = [part.counts() for part in parts if part.number == attendance.part]
    what: Happening = "check_in_undone" if last.undone else "checked_in"
    told_attendance = ToldAttendance(
        **dict(registration),
        counts=ToldCounts(**{**dict(counts), "parts": own_part, "checked_in": checked_in}),
        check_in=last.check_in,
        actor_id=actor_id,
    )
    return Change(
        aggregate_type="registration",
        aggregate_id=registration.id,
        version=attendance.version,
        type=f"registrations.{what}",
        key=str(registration.event_id),
        data=told_attendance.model_dump(mode="json"),
        actor_id=actor_id,
    )
