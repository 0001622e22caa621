"""A person's events as a calendar. Its own module: what it needs takes a third of a second to load."""

from __future__ import annotations

from eventsplatform.calendars import Entry, EntryStatus, calendar_feed
from eventsplatform.registrations.calendar_feeds import Attendance, FeedContent

NAME = "Events Platform"

# A feed is fetched again and again, and is one answer of 6 MB at most. The whole text is where the event is.
_DESCRIPTION = 1_000


def calendar_of(content: FeedContent) -> bytes:
    return calendar_feed([_entry(each) for each in content.attendances], NAME)


def _entry(attendance: Attendance) -> Entry:
    """SEQUENCE counts the event's changes and those of the person's registrations for it, of which none goes back."""
    event = attendance.event
    note, description = _note(attendance), event.description
    if len(description) > _DESCRIPTION:
        description = description[: _DESCRIPTION - 1] + "…"
    text = "\n\n".join(paragraph for paragraph in (note, description) if paragraph)
    return Entry(
        event.model_copy(update={"description": text}),
        _status(attendance),
        event.version - 1 + attendance.changes - 1,
    )


def _status(attendance: Attendance) -> EntryStatus:
    if "cancelled" in (attendance.event.status, attendance.status):
        return "CANCELLED"
    return "TENTATIVE" if attendance.status == "offered" else "CONFIRMED"


def _note(attendance: Attendance) -> str:
    """What the status of the person's registration means for them."""
    if attendance.status == "cancelled":
        return "You are not registered any more."
    if attendance.status == "offered" and attendance.offer_expires_at is not None:
        return f"A place is offered to you until {attendance.offer_expires_at:%Y-%m-%d %H:%M} UTC: accept it by then."
    return ""
