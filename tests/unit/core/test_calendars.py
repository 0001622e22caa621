from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import recurring_ical_events
from dateutil.tz import tzical
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar, Timezone

from eventsplatform.calendars import CalendarEvent, Entry, calendar_feed, calendar_file, entry_of
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


def calendar_of(event: CalendarEvent) -> bytes:
    return calendar_file(event).content


def read(content: bytes) -> Any:
    """The one entry of a calendar that a reader gets."""
    calendar = Calendar.from_ical(content)
    [entry] = calendar.walk("VEVENT")
    return entry


def test_a_calendar_has_the_event_at_its_local_time_with_its_zone() -> None:
    content = calendar_of(event())

    entry = read(content)
    assert entry["UID"] == "event-42@events-platform"
    assert entry["SEQUENCE"] == 2
    assert entry["STATUS"] == "CONFIRMED"
    assert entry.decoded("DTSTART") == event().starts_at
    assert b"DTSTART;TZID=Europe/Berlin:20300701T200000" in content
    assert [zone["TZID"] for zone in Calendar.from_ical(content).walk("VTIMEZONE")] == ["Europe/Berlin"]
    assert entry["GEO"].to_ical() == "52.52;13.405"


def test_the_same_version_gives_the_same_bytes_and_a_later_one_replaces_it() -> None:
    first, later = read(calendar_of(event())), read(calendar_of(event(version=4, title="Another concert")))

    assert calendar_of(event()) == calendar_of(event())
    assert later["UID"] == first["UID"]
    assert later["SEQUENCE"] > first["SEQUENCE"]


def test_a_cancelled_event_says_so_and_why() -> None:
    """As RFC 5546 §4.1.3 takes a published event back."""
    file = calendar_file(event(status="cancelled", cancellation_reason="Rain.", description="Bring chairs."))

    entry = read(file.content)
    assert Calendar.from_ical(file.content)["METHOD"] == "CANCEL"
    assert file.media_type == "text/calendar; charset=utf-8; method=CANCEL"
    assert entry["STATUS"] == "CANCELLED"
    assert entry["DESCRIPTION"] == "Rain.\n\nBring chairs."


def test_a_method_comes_with_an_organiser_who_has_no_address() -> None:
    file = calendar_file(event(organizer=Organizer(id=7, name='Ada "King"; Lovelace')))

    organizer = read(file.content)["ORGANIZER"]
    assert Calendar.from_ical(file.content)["METHOD"] == "PUBLISH"
    assert file.media_type.endswith("; method=PUBLISH")
    assert (str(organizer), organizer.params["CN"]) == ("urn:events-platform:user:7", 'Ada "King"; Lovelace')


@pytest.mark.parametrize("timezone", ["UTC", "America/Argentina/Ushuaia", "Asia/Kathmandu", "Africa/Casablanca"])
def test_the_moment_is_right_in_every_zone(timezone: str) -> None:
    entry = read(calendar_of(event(timezone=timezone)))

    assert entry.decoded("DTSTART") == event().starts_at
    assert entry.decoded("DTEND") == event().ends_at


def test_each_occurrence_of_a_series_is_an_entry_of_its_own() -> None:
    """With RECURRENCE-ID, who has three of ten evenings in a calendar would have three exceptions to nothing."""
    evenings = [event(id=number, series_id=1, series_date=f"2030-07-{number:02}") for number in (1, 8)]

    entries = [read(calendar_of(evening)) for evening in evenings]

    assert [entry["UID"] for entry in entries] == ["event-1@events-platform", "event-8@events-platform"]
    assert not any({"RECURRENCE-ID", "RRULE"} & entry.keys() for entry in entries)


# Time zones: read by dateutil, which goes by what VTIMEZONE says and not by the zone's name.

STRANGE_ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Europe/Dublin",  # whose winter is the one that is saved
    "Australia/Lord_Howe",  # by half an hour
    "Africa/Casablanca",  # twice more for Ramadan
    "Antarctica/Troll",  # by two hours
    "Asia/Kathmandu",
]


def wrong_hours(content: bytes, zone: str, around: datetime) -> list[datetime]:
    """Those in a year before and after at which a reader of the calendar has another time than the zone."""
    told = tzical(StringIO(content.decode())).get(zone)
    hours = [around + timedelta(hours=number) for number in range(-24 * 370, 24 * 370)]
    local = [hour.astimezone(ZoneInfo(zone)) for hour in hours]
    return [each for each in local if not each.fold and each.replace(tzinfo=told).utcoffset() != each.utcoffset()]


@pytest.mark.parametrize("zone", STRANGE_ZONES)
def test_the_zone_is_told_as_it_is_for_every_hour_of_two_years(zone: str) -> None:
    assert wrong_hours(calendar_of(event(timezone=zone)), zone, event().starts_at) == []


def wrong_onsets(calendar: Calendar, zone: str) -> list[str]:
    """When a change is told of at which the zone has none: DTSTART is combined with TZOFFSETFROM (RFC 5545 §3.6.5)."""
    wrong = []
    for part in calendar.walk("VTIMEZONE")[0].subcomponents:
        before, after = part.TZOFFSETFROM, part.TZOFFSETTO
        for told in [part.DTSTART, *(each.dt for each in getattr(part.get("RDATE"), "dts", []))]:
            onset = (told - before).replace(tzinfo=UTC)
            offsets = [(onset - timedelta(seconds=early)).astimezone(ZoneInfo(zone)).utcoffset() for early in (1, 0)]
            if offsets != [before, after]:
                wrong.append(f"{told:%m-%d %H:%M}")
    return wrong


@pytest.mark.parametrize("zone", STRANGE_ZONES)
def test_each_change_of_clocks_is_told_to_the_second(zone: str) -> None:
    assert wrong_onsets(Calendar.from_ical(calendar_of(event(timezone=zone))), zone) == []


def test_the_zone_as_the_library_tells_it_changes_an_hour_late_in_spring() -> None:
    """The control, and why the zone is not the library's."""
    first, last = date(2030, 1, 1), date(2030, 12, 31)
    calendar = Calendar()
    calendar.add_component(Timezone.from_tzinfo(ZoneInfo("Europe/Berlin"), first_date=first, last_date=last))

    assert wrong_onsets(calendar, "Europe/Berlin") == ["03-31 03:00"]


def test_an_hour_that_clocks_show_twice_is_the_one_it_is() -> None:
    twice = datetime(2030, 10, 27, 0, 30, tzinfo=UTC)
    hours = [event(starts_at=start, ends_at=twice.replace(hour=3)) for start in (twice, twice.replace(hour=1))]

    told = [read(calendar_of(hour)).decoded("DTSTART").astimezone(UTC) for hour in hours]
    assert told == [hour.starts_at for hour in hours]


@pytest.mark.timeout(10)
def test_events_may_be_millennia_long_or_apart() -> None:
    """Without looking at every week between: for a subscription somebody else has written the events."""
    long = event(ends_at=datetime(9999, 12, 31, 20, tzinfo=UTC))
    far = event(id=43, starts_at=datetime(7000, 6, 1, tzinfo=UTC), ends_at=datetime(7000, 6, 2, tzinfo=UTC))

    content = calendar_feed([entry_of(long), entry_of(far)], "Events")

    assert len(content) < 10_000
    assert wrong_hours(content, "Europe/Berlin", far.starts_at) == []
    assert [entry.decoded("DTEND") for entry in Calendar.from_ical(content).walk("VEVENT")] == [
        long.ends_at,
        far.ends_at,
    ]


# Subscriptions -----------------------------------------------------------------------------------


def test_a_subscription_says_what_there_is_and_how_often_to_look() -> None:
    entries = [
        entry_of(event()),
        Entry(event(id=43, timezone="Asia/Tokyo"), "TENTATIVE", 4),
        entry_of(event(id=44, status="cancelled", version=9)),
    ]

    content = calendar_feed(entries, "My events")

    calendar = Calendar.from_ical(content)
    assert "METHOD" not in calendar
    assert calendar["NAME"] == calendar["X-WR-CALNAME"] == "My events"
    assert b"REFRESH-INTERVAL;VALUE=DURATION:PT1H\r\n" in content
    assert {zone["TZID"] for zone in calendar.walk("VTIMEZONE")} == {"Europe/Berlin", "Asia/Tokyo"}
    assert [(entry["UID"], entry["STATUS"], entry["SEQUENCE"]) for entry in calendar.walk("VEVENT")] == [
        ("event-42@events-platform", "CONFIRMED", 2),
        ("event-43@events-platform", "TENTATIVE", 4),
        ("event-44@events-platform", "CANCELLED", 8),
    ]
    shown = recurring_ical_events.of(calendar).between((2030, 7, 1), (2030, 7, 3))
    assert len(shown) == 3


def test_nobody_who_has_nothing_ahead_gets_an_error() -> None:
    assert Calendar.from_ical(calendar_feed([], "My events")).walk("VEVENT") == []


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

    entry = read(content)
    assert str(entry["SUMMARY"]) == title
    assert str(entry["LOCATION"]) == place
    assert str(entry.get("DESCRIPTION", "")) == description.replace("\r\n", "\n").replace("\r", "\n")
    lines = content.split(b"\r\n")
    assert all(len(line) <= 75 for line in lines), "RFC 5545 §3.1"
    assert b"\r" not in b"".join(lines)
    assert b"\n" not in b"".join(lines)


def test_hostile_text_is_text() -> None:
    entry = read(calendar_of(event(title=HOSTILE, description=HOSTILE)))

    assert "ATTENDEE" not in entry
    assert entry["UID"] == "event-42@events-platform"


def test_text_that_is_not_escaped_adds_entries() -> None:
    """The control: a calendar put together by hand."""
    content = calendar_of(event(title="PLACEHOLDER")).replace(b"PLACEHOLDER", HOSTILE.encode())

    assert len(Calendar.from_ical(content).walk("VEVENT")) > 1
