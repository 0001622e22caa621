"""An event as an iCalendar file (RFC 5545), for the calendars that people keep.

Its own module, because the library takes a third of a second to load and few functions need it.
"""

from __future__ import annotations

from datetime import timedelta

from icalendar import Calendar
from icalendar import Event as Entry

from eventsplatform.catalog.model import Event, Status

PRODUCT = "-//Events Platform//Events Platform 1//EN"
_STATES: dict[Status, str] = {
    "draft": "TENTATIVE",
    "published": "CONFIRMED",
    "completed": "CONFIRMED",
    "cancelled": "CANCELLED",
}


def calendar_of(event: Event) -> bytes:
    """The calendar of one event. The same version gives the same bytes; a later one replaces it wherever it is kept.

    For that, UID is the event's and SEQUENCE counts its versions (RFC 5545 §3.8.7.4).
    """
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add_component(_entry(event))
    margin = timedelta(days=400)  # a whole year of its zone's changes, so that none is missing on either side
    first, last = event.starts_at_local.date(), event.ends_at_local.date()
    calendar.add_missing_timezones(first_date=first - margin, last_date=last + margin)
    content: bytes = calendar.to_ical()
    return content


def _entry(event: Event) -> Entry:
    entry = Entry()
    entry.add("uid", f"event-{event.id}@events-platform")
    entry.add("sequence", event.version - 1)
    entry.add("dtstamp", event.updated_at)
    entry.add("created", event.created_at)
    entry.add("last-modified", event.updated_at)
    entry.add("dtstart", event.starts_at_local)
    entry.add("dtend", event.ends_at_local)
    entry.add("status", _STATES[event.status])
    entry.add("summary", event.title)
    entry.add("location", event.location.name)
    entry.add("categories", [event.category, *event.tags])
    if text := _described(event):
        entry.add("description", text)
    if event.location.lat is not None:
        entry.add("geo", (event.location.lat, event.location.lon))
    return entry


def _described(event: Event) -> str:
    paragraphs = [event.cancellation_reason or "", event.description]
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    # A carriage return alone is a line's end to some readers, and is not escaped as one.
    return text.replace("\r\n", "\n").replace("\r", "\n")
