from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from eventsplatform.catalog.calendars import calendar_of
from eventsplatform.catalog.model import Event, Location, Organizer, Price

HOSTILE = "Jazz, blues; and \\more\r\nEND:VEVENT\r\nBEGIN:VEVENT\nATTENDEE:mailto:x@example.org\rUID:1"


def event(**changes: Any) -> Event:
    moment = datetime(2030, 7, 1, 18, tzinfo=UTC)
    fields: dict[str, Any] = {
        "id": 42,
        "title": "A concert",
        "description": "",
        "starts_at": moment,
        "ends_at": moment.replace(hour=20),
        "timezone": "Europe/Berlin",
        "location": Location(name="Berlin", lat=52.52, lon=13.405),
        "capacity": 100,
        "category": "music",
        "tags": ["jazz"],
        "price": Price.model_construct(amount=Decimal(0), currency="EUR"),
        "status": "published",
        "organizer": Organizer(id=7, name="Ada"),
        "registered": 0,
        "waitlisted": 0,
        "available": 100,
        "version": 3,
        "created_at": moment.replace(year=2029),
        "updated_at": moment.replace(year=2029, month=8),
    }
    return Event(**{**fields, **changes})


def entry_of(content: bytes) -> Any:
    """The one entry of a calendar that a reader gets."""
    calendar = Calendar.from_ical(content)
    [entry] = calendar.walk("VEVENT")
    return entry


def test_a_calendar_has_the_event_at_its_local_time_with_its_zone() -> None:
    content = calendar_of(event())

    entry = entry_of(content)
    assert entry["UID"] == "event-42@events-platform"
    assert entry["SEQUENCE"] == 2
    assert entry["STATUS"] == "CONFIRMED"
    assert entry.decoded("DTSTART") == event().starts_at
    assert b"DTSTART;TZID=Europe/Berlin:20300701T200000" in content
    assert [zone["TZID"] for zone in Calendar.from_ical(content).walk("VTIMEZONE")] == ["Europe/Berlin"]
    assert entry["GEO"].to_ical() == "52.52;13.405"


def test_the_same_version_gives_the_same_bytes_and_a_later_one_replaces_it() -> None:
    first, later = entry_of(calendar_of(event())), entry_of(calendar_of(event(version=4, title="Another concert")))

    assert calendar_of(event()) == calendar_of(event())
    assert later["UID"] == first["UID"]
    assert later["SEQUENCE"] > first["SEQUENCE"]


def test_a_cancelled_event_says_so_and_why() -> None:
    entry = entry_of(calendar_of(event(status="cancelled", cancellation_reason="Rain.", description="Bring chairs.")))

    assert entry["STATUS"] == "CANCELLED"
    assert entry["DESCRIPTION"] == "Rain.\n\nBring chairs."


@pytest.mark.parametrize("timezone", ["UTC", "America/Argentina/Ushuaia", "Asia/Kathmandu", "Africa/Casablanca"])
def test_the_moment_is_right_in_every_zone(timezone: str) -> None:
    entry = entry_of(calendar_of(event(timezone=timezone)))

    assert entry.decoded("DTSTART") == event().starts_at
    assert entry.decoded("DTEND") == event().ends_at


# What requests can bring: line breaks and tabs are the only control characters of a text.
LINES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=200)
TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cc", "Cs"]), st.sampled_from('\n\t\r;,\\:"')), max_size=300
)


@given(title=LINES.filter(bool), place=LINES.filter(bool), description=TEXTS)
def test_whatever_organisers_write_is_read_back_as_they_wrote_it_and_adds_nothing(
    title: str, place: str, description: str
) -> None:
    content = calendar_of(event(title=title, location=Location.model_construct(name=place), description=description))

    entry = entry_of(content)
    assert str(entry["SUMMARY"]) == title
    assert str(entry["LOCATION"]) == place
    assert str(entry.get("DESCRIPTION", "")) == description.replace("\r\n", "\n").replace("\r", "\n")
    lines = content.split(b"\r\n")
    assert all(len(line) <= 75 for line in lines), "RFC 5545 §3.1"
    assert b"\r" not in b"".join(lines)
    assert b"\n" not in b"".join(lines)


def test_hostile_text_is_text() -> None:
    entry = entry_of(calendar_of(event(title=HOSTILE, description=HOSTILE)))

    assert "ATTENDEE" not in entry
    assert entry["UID"] == "event-42@events-platform"


def test_text_that_is_not_escaped_adds_entries() -> None:
    """The control: a calendar put together by hand."""
    content = calendar_of(event(title="PLACEHOLDER")).replace(b"PLACEHOLDER", HOSTILE.encode())

    assert len(Calendar.from_ical(content).walk("VEVENT")) > 1
