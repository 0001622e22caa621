"""From the bytes of an iCalendar file to events that the API takes, and reasons for the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import icalendar
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsplatform.catalog.model import EventIn
from local.import_ics import CalendarFileError, Entry, Reading, read_calendar
from local.import_ics.categories import choose_category

FIXTURES = Path(__file__).parents[2] / "fixtures" / "calendars"
SHIPPED_SAMPLES = sorted((Path(icalendar.__file__).parent / "tests" / "calendars").glob("*.ics"))
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CONFERENCE = (FIXTURES / "conference.ics").read_bytes()


def calendar(*lines: str, header: str = "") -> bytes:
    """A calendar with one event of these lines, which a title and an end in 2035 need not be among."""
    given_names = {line.partition(":")[0].partition(";")[0] for line in lines}
    defaults = {
        "UID": "UID:1@example.org",
        "SUMMARY": "SUMMARY:A concert",
        "DTSTART": "DTSTART:20350514T180000Z",
        "LOCATION": "LOCATION:Town hall",
    }
    if "DTSTART" not in given_names and not given_names & {"DTEND", "DURATION"}:
        defaults["DTEND"] = "DTEND:20350514T200000Z"
    event = [line for name, line in defaults.items() if name not in given_names] + list(lines)
    text = ["BEGIN:VCALENDAR", "VERSION:2.0", header, "BEGIN:VEVENT", *event, "END:VEVENT", "END:VCALENDAR", ""]
    return "\r\n".join(line for line in text if line or line == text[-1]).encode()


def entry_of(data: bytes, now: datetime = NOW, **options: str) -> Entry:
    reading = read_calendar(data, now, **options)  # type: ignore[arg-type]
    assert not reading.refusals
    (entry,) = reading.entries
    return entry


def reason_of(data: bytes) -> str:
    reading = read_calendar(data, NOW)
    assert not reading.entries
    (refusal,) = reading.refusals
    return refusal.reason


def sample(name: str, now: datetime = datetime(1990, 1, 1, tzinfo=UTC)) -> Reading:
    return read_calendar((FIXTURES / "icalendar" / name).read_bytes(), now)


# The sample calendar


def test_the_sample_conference_is_taken_but_for_what_nobody_could_publish() -> None:
    reading = read_calendar(CONFERENCE, NOW)
    assert [entry.event.title for entry in reading.entries] == [
        "Opening and keynote: Thirty years of open systems",
        "Workshop: Kernel tracing für Einsteiger — 追踪入门",
        "Hack day",
        "Live stream from Boston",
        "Monthly meetup",
    ]
    assert [(refusal.line, refusal.summary, refusal.reason) for refusal in reading.refusals] == [
        (74, "Open Systems Days 2005", "it has already started, on 2005-05-12 07:00 UTC"),
        (81, "Speakers' dinner", "it is marked private"),
        (89, "Boat trip", "it is cancelled"),
        (97, "Talk from Mars", "its time zone 'Mars/Gale Crater' is unknown and the file does not define it"),
        (104, "Closing before opening", "it ends before it starts"),
        (111, "", "it has no title (SUMMARY)"),
        (117, "", "it is a to-do, not an event"),
    ]


def test_an_entry_carries_everything_the_platform_has_a_place_for() -> None:
    opening = read_calendar(CONFERENCE, NOW, capacity=250).entries[0]
    assert opening.event.model_dump(mode="json", exclude={"price"}) == {
        "title": "Opening and keynote: Thirty years of open systems",
        "description": "Doors open at 9:00.\n\nCoffee, tea and a badge are waiting in the foyer; the keynote starts on "
        "time.\n\nhttps://open-systems-days.example.org/opening",
        "starts_at": "2035-05-14T07:30:00Z",
        "ends_at": "2035-05-14T09:00:00Z",
        "timezone": "Europe/Berlin",
        "location": {"name": "Kongresshalle, Berlin", "lat": 52.5186, "lon": 13.3651},
        "capacity": 250,
        "category": "tech",
        "tags": ["conference", "keynote"],
    }
    assert (opening.line, opening.sequence, opening.notes) == (23, 2, ())


# Times


@pytest.mark.parametrize(
    ("start", "end", "expected_start", "expected_end", "zone"),
    [
        ("DTSTART:20350514T180000Z", "DTEND:20350514T190000Z", "18:00", "19:00", "UTC"),
        ("DTSTART;TZID=Asia/Tokyo:20350514T180000", "DURATION:PT90M", "09:00", "10:30", "Asia/Tokyo"),
        ("DTSTART;TZID=Eastern Standard Time:20350514T080000", "DURATION:PT1H", "12:00", "13:00", "America/New_York"),
        ("DTSTART;TZID=/vendor/Europe/Paris:20350514T180000", "DURATION:PT1H", "16:00", "17:00", "Europe/Paris"),
        ("DTSTART;TZID=Europe/Berlin:20350514T180000", "DTEND:20350514T190000", "16:00", "17:00", "Europe/Berlin"),
    ],
)  # fmt: skip
def test_times_are_moments_in_the_zone_that_the_file_names(
    start: str, end: str, expected_start: str, expected_end: str, zone: str
) -> None:
    event = entry_of(calendar(start, end)).event
    assert (f"{event.starts_at:%H:%M}", f"{event.ends_at:%H:%M}", event.timezone) == (
        expected_start,
        expected_end,
        zone,
    )


def test_floating_times_are_in_the_zone_asked_for_with_a_note() -> None:
    entry = entry_of(calendar("DTSTART:20350514T180000", "DURATION:PT1H"), timezone="Asia/Tokyo")
    assert entry.event.starts_at == datetime(2035, 5, 14, 9, tzinfo=UTC)
    assert entry.event.timezone == "Asia/Tokyo"
    assert entry.notes == ("its time names no time zone; taken as Asia/Tokyo",)


@pytest.mark.parametrize("start", ["DTSTART:20350514T180000", "DTSTART:20350514T160000Z"])
def test_the_calendars_own_zone_goes_before_the_one_asked_for(start: str) -> None:
    entry = entry_of(calendar(start, "DURATION:PT1H", header="X-WR-TIMEZONE:Europe/Berlin"), timezone="Asia/Tokyo")
    assert entry.event.starts_at == datetime(2035, 5, 14, 16, tzinfo=UTC)
    assert entry.event.timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("lines", "days"),
    [
        (("DTSTART;VALUE=DATE:20350514",), 1),
        (("DTSTART;VALUE=DATE:20350514", "DTEND;VALUE=DATE:20350514"), 1),
        (("DTSTART;VALUE=DATE:20350514", "DTEND;VALUE=DATE:20350517"), 3),
        (("DTSTART;VALUE=DATE:20350514", "DURATION:P2D"), 2),
    ],
)
def test_whole_days_last_from_midnight_to_midnight(lines: tuple[str, ...], days: int) -> None:
    entry = entry_of(calendar(*lines), timezone="America/New_York")
    assert entry.event.starts_at == datetime(2035, 5, 14, 4, tzinfo=UTC)
    assert entry.event.ends_at - entry.event.starts_at == timedelta(days=days)
    assert entry.notes == ()


def test_a_whole_day_has_as_many_hours_as_its_clocks_say() -> None:
    event = entry_of(calendar("DTSTART;VALUE=DATE:20350325"), timezone="Europe/Berlin").event
    assert event.ends_at - event.starts_at == timedelta(hours=23)


@pytest.mark.parametrize(("duration", "hours"), [("P1D", 23), ("PT12H", 12), ("P1DT2H", 25)])
def test_days_are_counted_on_the_calendar_and_hours_on_the_clock(duration: str, hours: int) -> None:
    event = entry_of(calendar("DTSTART;TZID=Europe/Berlin:20350324T180000", f"DURATION:{duration}")).event
    assert event.ends_at - event.starts_at == timedelta(hours=hours)


@pytest.mark.parametrize("end", [(), ("DTEND:20350514T180000Z",), ("DURATION:PT0S",)])
def test_an_event_without_length_lasts_an_hour_with_a_note(end: tuple[str, ...]) -> None:
    entry = entry_of(calendar("DTSTART:20350514T180000Z", *end))
    assert entry.event.ends_at - entry.event.starts_at == timedelta(hours=1)
    assert entry.notes == ("it has no end; taken to last an hour",)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("DTSTART:20350514T180000Z", "DTEND:20350514T170000Z"), "it ends before it starts"),
        (("DTSTART;VALUE=DATE:20350514", "DTEND:20350514T170000Z"), "one of its start and end is a date"),
        (("DTSTART:yesterday",), "its DTSTART cannot be read"),
        (("DTSTART;;VALUE=DATE-TIME:20350514T180000",), "its DTSTART cannot be read"),
        (("DTSTART:20350514T180000Z", "DURATION:-PT1H"), "it ends before it starts"),
        (("DTSTART:20350514T180000Z", "DTSTART:20350515T180000Z"), "it has DTSTART more than once"),
        (("DTSTART:20350514T180000Z", "DURATION:P9999999W"), "its end is out of range"),
        (("DTSTART;TZID=Mars/Base:20350514T180000",), "its time zone 'Mars/Base' is unknown"),
        (("DTSTART;TZID=Europe:20350514T180000",), ""),  # differs by the version of Python
        (("DTSTART:20261123T120000Z", "DURATION:PT1H"), "it has already started, on 2026-11-23 12:00 UTC"),
    ],
)
def test_times_that_make_no_sense_are_a_reason(lines: tuple[str, ...], reason: str) -> None:
    assert reason_of(calendar(*lines)).startswith(reason)


def test_a_zone_that_only_the_file_defines_gives_the_moment_and_is_shown_in_utc() -> None:
    entry = sample("america_new_york.ics").entries[0]
    assert entry.event.starts_at == datetime(2014, 8, 29, 12, tzinfo=UTC)
    assert entry.event.timezone == "UTC"
    assert "'custom_America/New_York' has no IANA name" in entry.notes[0]


def test_a_zone_that_the_file_defines_and_names_is_shown_under_that_name() -> None:
    data = (FIXTURES / "icalendar" / "america_new_york.ics").read_bytes()
    data = data.replace(b"BEGIN:VTIMEZONE", b"BEGIN:VTIMEZONE\nX-LIC-LOCATION:America/New_York")
    entry = entry_of(data, now=datetime(1990, 1, 1, tzinfo=UTC))
    assert entry.event.timezone == "America/New_York"


def test_zones_of_one_file_are_not_known_in_the_next() -> None:
    sample("america_new_york.ics")
    data = calendar("DTSTART;TZID=custom_America/New_York:20350514T180000", "DURATION:PT1H")
    assert "unknown and the file does not define it" in reason_of(data)


def test_a_broken_zone_costs_only_the_events_that_use_it() -> None:
    zone = "BEGIN:VTIMEZONE\r\nTZID:Odd\r\nBEGIN:STANDARD\r\nTZOFFSETTO:+5744\r\nEND:STANDARD\r\nEND:VTIMEZONE"
    broken = calendar("DTSTART;TZID=Odd:20350514T180000", "DURATION:PT1H", header=zone)
    whole = calendar("DTSTART:20350514T180000Z", "DURATION:PT1H", header=zone)
    assert reason_of(broken).startswith("its time zone 'Odd' is not well defined in the file: line 3")
    assert entry_of(whole).event.starts_at.hour == 18


# Recurrence


def test_a_series_is_taken_at_its_next_occurrence_that_is_not_excluded() -> None:
    entry = entry_of(
        calendar(
            "DTSTART;TZID=Europe/Berlin:20260107T190000",
            "DURATION:PT2H",
            "RRULE:FREQ=WEEKLY;BYDAY=WE",
            "EXDATE;TZID=Europe/Berlin:20261125T190000",
        )
    )
    assert entry.event.starts_at == datetime(2026, 12, 2, 18, tzinfo=UTC)
    assert entry.notes == ("it repeats; only its next occurrence is taken",)


@pytest.mark.parametrize(
    ("zone", "hour"), [("Europe/Berlin", 17), ("W. Europe Standard Time", 17), ("Mars/Base", 18), ("\x01", 18)]
)
def test_a_series_in_utc_follows_the_clocks_of_the_calendars_own_zone_if_that_is_known(zone: str, hour: int) -> None:
    series = calendar(
        "DTSTART:20260107T180000Z", "DURATION:PT2H", "RRULE:FREQ=WEEKLY;BYDAY=WE", header=f"X-WR-TIMEZONE:{zone}"
    )
    assert entry_of(series, now=datetime(2027, 7, 1, tzinfo=UTC)).event.starts_at.hour == hour


def test_an_occurrence_that_was_moved_is_taken_where_it_was_moved_to_and_a_cancelled_one_is_not() -> None:
    series = calendar("DTSTART:20260107T190000Z", "DURATION:PT2H", "RRULE:FREQ=WEEKLY;BYDAY=WE")
    exceptions = b"""BEGIN:VEVENT
UID:1@example.org
RECURRENCE-ID:20261125T190000Z
SUMMARY:A concert
STATUS:CANCELLED
DTSTART:20261125T190000Z
END:VEVENT
BEGIN:VEVENT
UID:1@example.org
RECURRENCE-ID:20261202T190000Z
SUMMARY:A concert at another time
LOCATION:Church
DTSTART:20261203T203000Z
DTEND:20261203T220000Z
END:VEVENT
END:VCALENDAR"""
    entry = entry_of(series.replace(b"END:VCALENDAR", exceptions))
    assert entry.event.title == "A concert at another time"
    assert entry.event.starts_at == datetime(2026, 12, 3, 20, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("RRULE:FREQ=WEEKLY;COUNT=3", "it repeats, but never again from now on"),
        ("RRULE:FREQ=YEARLY;UNTIL=20260601T000000Z", "it repeats, but never again from now on"),
        ("RRULE:FREQ=SECONDLY", "it repeats more than once a day"),
        ("RRULE:FREQ=SOMETIMES", "its RRULE cannot be read"),
        ("RRULE:RSCALE=CHINESE;FREQ=YEARLY", "its recurrence cannot be computed"),
    ],
)
def test_a_series_without_a_next_occurrence_is_refused(rule: str, reason: str) -> None:
    assert reason_of(calendar("DTSTART:20200107T190000Z", "DURATION:PT2H", rule)).startswith(reason)


def test_of_two_revisions_the_later_one_is_taken() -> None:
    old, new = calendar("SEQUENCE:1"), calendar("SEQUENCE:2", "SUMMARY:A better concert")
    reading = read_calendar(new + old, NOW)
    both = read_calendar(new.replace(b"END:VCALENDAR\r\n", b"") + old[old.index(b"BEGIN:VEVENT") :], NOW)
    assert len(reading.entries) == 2  # two calendars are two files in one
    assert [entry.event.title for entry in both.entries] == ["A better concert"]
    assert [refusal.reason for refusal in both.refusals] == [
        "a later revision of it, with the same UID, is in the file as well"
    ]


# What may not, or cannot, be published as it is


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("STATUS:CANCELLED",), "it is cancelled"),
        (("CLASS:CONFIDENTIAL",), "it is marked confidential"),
        (("CLASS:X-FRIENDS",), "it is marked x-friends"),
        (("SUMMARY:",), "it has no title (SUMMARY)"),
        (("SUMMARY:ab",), "its title: String should have at least 3 characters"),
        (("SUMMARY:evil \u202etxet",), "its title: must not have characters that turn the direction of text"),
    ],
)
def test_what_should_not_be_public_is_refused(lines: tuple[str, ...], reason: str) -> None:
    assert reason_of(calendar(*lines)) == reason


def test_a_calendar_of_cancellations_cancels() -> None:
    assert reason_of(calendar(header="METHOD:CANCEL")) == "it is cancelled"


def test_texts_that_are_too_long_are_cut_with_a_note() -> None:
    entry = entry_of(calendar("SUMMARY:" + "t" * 300, "DESCRIPTION:" + "d" * 6000, "LOCATION:" + "p" * 600))
    assert (len(entry.event.title), len(entry.event.description), len(entry.event.location.name)) == (255, 5000, 500)
    assert entry.event.title.endswith("…")
    assert len(entry.notes) == 3


@pytest.mark.parametrize(
    ("lines", "name", "position", "notes"),
    [
        (("LOCATION:", "GEO:52.5;13.4"), "52.50000, 13.40000", (52.5, 13.4), 0),
        (("LOCATION:", "URL:https://example.org"), "Online", (None, None), 1),
        (("LOCATION:",), "To be announced", (None, None), 1),
        (("GEO:95;13.4",), "Town hall", (None, None), 1),
        (("GEO:nan;nan",), "Town hall", (None, None), 1),
        (("GEO:here",), "Town hall", (None, None), 1),
    ],
)
def test_places_are_named_as_well_as_the_file_allows(
    lines: tuple[str, ...], name: str, position: tuple[float | None, float | None], notes: int
) -> None:
    entry = entry_of(calendar(*lines))
    assert entry.event.location.name == name
    assert (entry.event.location.lat, entry.event.location.lon) == position
    assert len(entry.notes) == notes


@pytest.mark.parametrize(
    ("labels", "category", "tags"),
    [
        ([], "community", []),
        (["Live Music", "Berlin"], "music", ["live music", "berlin"]),
        (["Conference", "TECH"], "tech", ["conference"]),
        (["Yoga  Class", "yoga class"], "health", ["yoga class"]),
        (["misc", " "], "community", ["misc"]),
    ],
)
def test_categories_are_named_meant_or_left_as_tags(labels: list[str], category: str, tags: list[str]) -> None:
    assert choose_category(labels) == (category, tags)


def test_categories_of_several_lines_become_tags_as_far_as_there_is_room() -> None:
    numbered = ",".join(f"label {number}" for number in range(24))
    entry = entry_of(calendar("CATEGORIES:Jazz\\, live,Quartet", f"CATEGORIES:{numbered}", "CATEGORIES:" + "x" * 60))
    assert entry.event.category == "music"
    assert entry.event.tags[:2] == ["jazz, live", "quartet"]
    assert len(entry.event.tags) == 20
    assert entry.notes == ("7 of its categories are too many or too long for tags",)


# Files


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"\r\n \r\n", "the file is empty"),
        (b"<html>", "line 1: expected BEGIN:VCALENDAR, found '<html>'"),
        (b"BEGIN:VCALENDAR\nEND:VCALENDAR", "the calendar has no events"),
        (CONFERENCE[:1500], "line 47: BEGIN:VEVENT is never closed; the file seems to be cut off"),
        (
            CONFERENCE.replace(b"END:VTODO", b"END:VEVENT"),
            "line 121: END:VEVENT does not close BEGIN:VTODO of line 117",
        ),
        (CONFERENCE.replace(b"VERSION:2.0", b"VERSION"), "line 2: 'VERSION' is not a property"),
        (calendar(header="CALSCALE:CHINESE"), "the calendar counts in 'CHINESE'; only GREGORIAN is supported"),
        ("BEGIN:VCALENDAR\nX:Köln".encode("latin-1"), "line 2: the byte 0xF6 is not UTF-8"),
    ],
)
def test_what_is_no_calendar_is_said_with_the_line(data: bytes, message: str) -> None:
    with pytest.raises(CalendarFileError) as caught:
        read_calendar(data, NOW)
    assert str(caught.value).startswith(message)


def test_a_named_encoding_is_used_unless_a_byte_order_mark_says_otherwise() -> None:
    data = calendar("SUMMARY:Fête à Köln")
    expected = "Fête à Köln"
    assert entry_of(data.decode().encode("latin-1"), encoding="latin-1").event.title == expected
    assert entry_of(data.decode().encode("utf-16"), encoding="utf-16").event.title == expected
    assert entry_of(b"\xef\xbb\xbf" + data, encoding="latin-1").event.title == expected


def test_an_unknown_encoding_or_zone_is_named() -> None:
    with pytest.raises(CalendarFileError, match="'klingon' is not the name of an encoding"):
        read_calendar(calendar(), NOW, encoding="klingon")
    with pytest.raises(ValueError, match="'Mars' is not an IANA time zone name"):
        read_calendar(calendar(), NOW, timezone="Mars")
    with pytest.raises(ValueError, match="'Europe' is not an IANA time zone name"):
        read_calendar(calendar(), NOW, timezone="Europe")


@pytest.mark.parametrize("ending", [b"\r\n", b"\n", b"\r"])
def test_every_kind_of_line_ending_is_read_alike(ending: bytes) -> None:
    assert read_calendar(CONFERENCE.replace(b"\r\n", ending), NOW) == read_calendar(CONFERENCE, NOW)


def test_two_calendars_in_one_file_and_a_remark_behind_them_are_read() -> None:
    assert len(sample("multiple_calendar_components.ics").entries) == 3
    assert len(read_calendar(calendar() + b"X-COMMENT:cached\r\n", NOW).entries) == 1


@pytest.mark.parametrize(
    ("name", "zones"),
    [
        ("issue_313_globally_unique_tzid.ics", ["Europe/Berlin", "America/New_York", "America/Argentina/Buenos_Aires"]),
        ("issue_836_do_not_quote_tzid.ics", ["America/New_York"]),
        ("timezoned.ics", ["Europe/Vienna"]),
        ("x_location.ics", ["Europe/Zurich"]),
    ],
)
def test_calendars_of_real_programs_keep_their_zones(name: str, zones: list[str]) -> None:
    assert [entry.event.timezone for entry in sample(name).entries] == zones


@pytest.mark.parametrize("path", SHIPPED_SAMPLES, ids=lambda path: path.stem)
def test_every_sample_of_the_icalendar_package_is_read_or_refused_in_words(path: Path) -> None:
    try:
        reading = read_calendar(path.read_bytes(), datetime(1990, 1, 1, tzinfo=UTC))
    except CalendarFileError:
        return
    assert reading.entries or reading.refusals
    assert all(refusal.reason and refusal.line >= 1 for refusal in reading.refusals)


def test_the_samples_are_there() -> None:
    assert len(SHIPPED_SAMPLES) > 50


# Keys


def test_an_idempotency_key_names_the_revision_the_occurrence_and_the_step() -> None:
    first = entry_of(calendar("SEQUENCE:1"))
    assert first.idempotency_key("create") == entry_of(calendar("SEQUENCE:1")).idempotency_key("create")
    others = [
        entry_of(calendar("SEQUENCE:2")).idempotency_key("create"),
        entry_of(calendar("SEQUENCE:1", "UID:2@example.org")).idempotency_key("create"),
        entry_of(calendar("SEQUENCE:1", "DTSTART:20350515T180000Z", "DURATION:PT1H")).idempotency_key("create"),
        first.idempotency_key("publish"),
    ]
    assert len({first.idempotency_key("create"), *others}) == 5


def test_an_entry_without_uid_is_known_by_its_text() -> None:
    assert entry_of(calendar("UID:")).uid.startswith("sha256:")


# Anything at all

PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp")), max_size=60)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    _read_or_refuse(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_calendar_with_lines_mixed_up_is_read_or_refused(data: st.DataObject) -> None:
    lines = CONFERENCE.split(b"\r\n")
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.sampled_from(["drop", "repeat", "cut", "swap", "spoil"])):
            case "drop":
                lines[at : at + 1] = []
            case "repeat":
                lines.insert(data.draw(st.integers(0, len(lines))), lines[at])
            case "cut":
                lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
            case "swap":
                other = data.draw(st.integers(0, len(lines) - 1))
                lines[at], lines[other] = lines[other], lines[at]
            case "spoil":
                lines[at] += data.draw(st.binary(max_size=6))
        if not lines:
            return
    _read_or_refuse(b"\r\n".join(lines))


@settings(deadline=None)
@given(
    title=PRINTABLE.filter(lambda text: len(" ".join(text.split())) >= 3),
    description=PRINTABLE,
    start=st.datetimes(datetime(2030, 1, 1), datetime(2090, 1, 1), timezones=st.timezones()),  # noqa: DTZ001
    minutes=st.integers(1, 60 * 24 * 30),
)
def test_what_icalendar_writes_is_read_back(title: str, description: str, start: datetime, minutes: int) -> None:
    # Given a calendar that the library wrote
    written = icalendar.Event()
    written.add("uid", "1@example.org")
    written.add("summary", title)
    written.add("description", description)
    written.add("location", "Here")
    # by way of UTC, for some times are skipped when clocks are put forward
    starts_at = start.replace(microsecond=0).astimezone(UTC).astimezone(start.tzinfo).replace(fold=0)
    written.add("dtstart", starts_at)
    written.add("duration", timedelta(minutes=minutes))
    document = icalendar.Calendar()
    document.add_component(written)

    # When it is read
    event = entry_of(document.to_ical()).event

    # Then it says the same
    assert event.title == " ".join(title.split())
    assert event.description == description.strip()
    assert event.starts_at == starts_at.astimezone(UTC)


def _read_or_refuse(data: bytes) -> None:
    try:
        reading = read_calendar(data, NOW)
    except CalendarFileError:
        return
    for entry in reading.entries:
        assert entry.event.starts_at > NOW
        assert entry.event.ends_at > entry.event.starts_at
        assert ZoneInfo(entry.event.timezone)
        assert EventIn.model_validate_json(entry.event.model_dump_json()) == entry.event
    for refusal in reading.refusals:
        assert refusal.reason
