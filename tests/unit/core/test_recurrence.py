"""Rules of series: what of RFC 5545 they may be, and the dates that they have."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import icalendar
import pytest
import recurring_ical_events
from hypothesis import assume, given
from hypothesis import strategies as st

from eventsplatform.catalog.recurrence import OCCURRENCES_MAXIMUM, RecurrenceRule

BERLIN = ZoneInfo("Europe/Berlin")
TUESDAY = date(2030, 5, 7)
EVENING = time(19)


def dates(rule: str, first: date = TUESDAY, at: time = EVENING, zone: ZoneInfo = BERLIN) -> list[str]:
    return [f"{day:%m-%d}" for day in RecurrenceRule.parse(rule).dates(first, at, zone)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("FREQ=DAILY;COUNT=3", ["05-07", "05-08", "05-09"]),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=3", ["05-07", "05-21", "06-04"]),
        ("FREQ=WEEKLY;BYDAY=TU,TH;COUNT=4", ["05-07", "05-09", "05-14", "05-16"]),
        ("FREQ=MONTHLY;BYDAY=1TU;COUNT=3", ["05-07", "06-04", "07-02"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=5;COUNT=2", ["05-07", "06-07"]),
        ("FREQ=YEARLY;BYMONTH=5,11;BYMONTHDAY=7;COUNT=3", ["05-07", "11-07", "05-07"]),
        ("FREQ=WEEKLY;UNTIL=20300521", ["05-07", "05-14", "05-21"]),
    ],
)
def test_a_rule_has_the_dates_that_rfc_5545_says(rule: str, expected: list[str]) -> None:
    assert dates(rule) == expected


def test_months_without_the_day_are_left_out_and_not_counted() -> None:
    assert dates("FREQ=MONTHLY;COUNT=4", date(2030, 1, 31)) == ["01-31", "03-31", "05-31", "07-31"]


def test_an_until_in_utc_ends_with_the_last_occurrence_that_begins_by_then() -> None:
    """19:00 in Berlin's summer is 17:00 in UTC."""
    assert dates("FREQ=DAILY;UNTIL=20300508T170000Z") == ["05-07", "05-08"]
    assert dates("FREQ=DAILY;UNTIL=20300508T165959Z") == ["05-07"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("RRULE:freq=weekly;byday=tu;count=2", "FREQ=WEEKLY;BYDAY=TU;COUNT=2"),
        (" COUNT=2;FREQ=DAILY; ", "FREQ=DAILY;COUNT=2"),
        ("FREQ=DAILY;UNTIL=20301231T180000Z", "FREQ=DAILY;UNTIL=20301231T180000Z"),
        ("FREQ=DAILY;UNTIL=20301231", "FREQ=DAILY;UNTIL=20301231"),
    ],
)
def test_a_rule_is_kept_in_one_form(text: str, kept: str) -> None:
    assert str(RecurrenceRule.parse(text)) == kept


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is no part of a rule here; allowed: FREQ, "),
        ("every tuesday", "is no part"),
        ("COUNT=2", "FREQ is missing; allowed: one of DAILY"),
        ("FREQ=HOURLY;COUNT=2", "FREQ is 'HOURLY'; allowed: one of DAILY, WEEKLY, MONTHLY, YEARLY"),
        ("FREQ=DAILY;BYHOUR=9,18;COUNT=2", "'BYHOUR' is no part"),
        ("FREQ=DAILY;COUNT=2;COUNT=3", "COUNT is there twice"),
        ("FREQ=DAILY", "either COUNT or UNTIL says when"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20301231", "either COUNT or UNTIL says when"),
        ("FREQ=DAILY;COUNT=0", "COUNT is '0'; allowed: 1 to 366"),
        ("FREQ=DAILY;COUNT=367", "COUNT is 367; allowed: 1 to 366"),
        ("FREQ=DAILY;COUNT=٣", "COUNT is '٣'"),
        ("FREQ=DAILY;INTERVAL=0;COUNT=2", "INTERVAL is '0'; allowed: 1 to 999"),
        ("FREQ=DAILY;UNTIL=20301331", "UNTIL is '20301331'; allowed: a date such as"),
        ("FREQ=DAILY;UNTIL=20301231T180000", "UNTIL is '20301231T180000'"),
        ("FREQ=WEEKLY;BYDAY=TUESDAY;COUNT=2", "BYDAY is 'TUESDAY'; allowed: MO, TU"),
        ("FREQ=WEEKLY;BYDAY=2TU;COUNT=2", "BYDAY has a number"),
        ("FREQ=WEEKLY;BYMONTHDAY=1;COUNT=2", "BYMONTHDAY does not go with FREQ=WEEKLY"),
        ("FREQ=MONTHLY;BYMONTHDAY=32;COUNT=2", "BYMONTHDAY is '32'"),
        ("FREQ=YEARLY;BYMONTH=13;COUNT=2", "BYMONTH is '13'; allowed: 1 to 12"),
        ("FREQ=MONTHLY;BYSETPOS=1;COUNT=2", "BYSETPOS chooses"),
    ],
)
def test_what_is_no_rule_is_named_with_what_is_allowed(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^.*$") as refused:
        RecurrenceRule.parse(text)

    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("FREQ=WEEKLY;BYDAY=WE;COUNT=3", "the event is on Tuesday, 07 May 2030, which is no date of this rule"),
        ("FREQ=DAILY;UNTIL=20300506", "UNTIL is before the event itself, which is on 2030-05-07"),
        ("FREQ=DAILY;UNTIL=20310601", "more than 366 dates until 2031-06-01"),
        ("FREQ=MONTHLY;UNTIL=20400601", "a series spans 10 years at most; UNTIL is after 2040-05-14"),
        ("FREQ=YEARLY;COUNT=20", "10 years at most, in which this rule has 11 dates and not 20"),
    ],
)
def test_a_rule_that_does_not_fit_its_event_is_refused(rule: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^.*$") as refused:
        dates(rule)

    assert problem in str(refused.value)


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;BYDAY=MO;BYSETPOS=3;COUNT=2",  # sixteen seconds when it is searched to the year 9999
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=2",
        "FREQ=WEEKLY;BYMONTH=2;BYDAY=MO;BYSETPOS=5;COUNT=2",
    ],
)
def test_a_rule_that_never_comes_true_is_refused_without_searching_for_its_dates(rule: str) -> None:
    with pytest.raises(ValueError, match="no date of this rule"):
        dates(rule)


def test_a_series_at_the_end_of_the_calendar_ends_with_it() -> None:
    last = date(9999, 12, 28)

    assert dates("FREQ=DAILY;COUNT=4", last, zone=ZoneInfo("UTC"))[-1] == "12-31"
    with pytest.raises(ValueError, match="has 4 dates and not 5"):
        dates("FREQ=DAILY;COUNT=5", last, zone=ZoneInfo("UTC"))


WEEKDAYS = st.lists(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"]), min_size=1, max_size=3, unique=True)


@st.composite
def rules(draw: st.DrawFn) -> str:
    frequency = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = [f"FREQ={frequency}", f"COUNT={draw(st.integers(1, 40))}", f"INTERVAL={draw(st.integers(1, 4))}"]
    if draw(st.booleans()):
        numbered = frequency in ("MONTHLY", "YEARLY") and draw(st.booleans())
        prefix = draw(st.sampled_from(["1", "2", "-1"])) if numbered else ""
        parts.append("BYDAY=" + ",".join(prefix + day for day in draw(WEEKDAYS)))
    if draw(st.booleans()):
        parts.append("BYMONTH=" + ",".join(map(str, draw(st.lists(st.integers(1, 12), min_size=1, unique=True)))))
    return ";".join(parts)


@given(rule=rules(), offset=st.integers(0, 800))
def test_the_dates_are_those_that_a_calendar_makes_of_the_rule(rule: str, offset: int) -> None:
    first = date(2030, 1, 1) + timedelta(days=offset)
    try:
        found = RecurrenceRule.parse(rule).dates(first, EVENING, BERLIN)
    except ValueError:
        assume(False)
    entry = icalendar.Event()
    entry.add("uid", "1")
    entry.add("dtstart", datetime.combine(first, EVENING, BERLIN))
    entry.add("rrule", icalendar.vRecur.from_ical(rule))
    calendar = icalendar.Calendar()
    calendar.add_component(entry)

    expanded = recurring_ical_events.of(calendar).between(first, first + timedelta(days=3660))

    assert sorted(each["DTSTART"].dt.date() for each in expanded) == found
    assert len(found) <= OCCURRENCES_MAXIMUM
    assert datetime.combine(found[0], EVENING, BERLIN).astimezone(UTC).hour in (17, 18)
