"""When the occurrences of a series are, and what a change of one does to the others."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from eventsplatform.catalog.model import Event, EventPatch, KnownEvent, Location, Organizer, Price
from eventsplatform.catalog.occurrences import SeriesIn, planned_dates, slots, wanted_changes
from eventsplatform.errors import ConflictError, InvalidInputError

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def event(starts_at: str, ends_at: str, **changes: Any) -> KnownEvent:
    fields: dict[str, Any] = {
        "id": 1,
        "title": "Choir",
        "description": "",
        "starts_at": at(starts_at),
        "ends_at": at(ends_at),
        "timezone": "Europe/Berlin",
        "location": Location(name="Berlin"),
        "capacity": 10,
        "category": "music",
        "tags": [],
        "price": Price.model_construct(amount=Decimal(0), currency="EUR"),
        "status": "draft",
        "organizer": Organizer(id=7, name="Ada"),
        "registered": 0,
        "waitlisted": 0,
        "available": 10,
        "version": 1,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return KnownEvent(**{**fields, **changes})


def occurrence(number: int, starts_at: str, ends_at: str, **changes: Any) -> KnownEvent:
    day = datetime.fromisoformat(starts_at).date()
    return event(starts_at, ends_at, **{"id": number, "series_id": 1, "series_date": day, **changes})


def local_times(pattern: Event, *days: date) -> list[tuple[str, str]]:
    made = slots(pattern, datetime.fromisoformat(str(pattern.starts_at_local)).date(), days)
    shown = [event("2030-01-01T00:00Z", "2030-01-02T00:00Z", timezone=pattern.timezone) for _ in made]
    for each, slot in zip(shown, made, strict=True):
        each.starts_at, each.ends_at = slot.starts_at, slot.ends_at
    return [(each.starts_at_local.isoformat()[:16] + str(each.starts_at_local)[-6:],
             each.ends_at_local.isoformat()[11:16] + str(each.ends_at_local)[-6:]) for each in shown]  # fmt: skip


# When they are -----------------------------------------------------------------------------------


def test_the_wall_clock_shows_the_same_on_both_sides_of_a_change_of_clocks() -> None:
    evening = event("2030-03-26T19:00+01:00", "2030-03-26T21:00+01:00")

    assert local_times(evening, date(2030, 3, 26), date(2030, 4, 2), date(2030, 10, 29)) == [
        ("2030-03-26T19:00+01:00", "21:00+01:00"),
        ("2030-04-02T19:00+02:00", "21:00+02:00"),
        ("2030-10-29T19:00+01:00", "21:00+01:00"),
    ]


def test_a_time_that_clocks_skip_is_an_hour_later_and_keeps_its_length() -> None:
    """On 31 March 2030 they go from 02:00 to 03:00."""
    night = event("2030-03-30T02:30+01:00", "2030-03-30T02:50+01:00")

    assert local_times(night, date(2030, 3, 31), date(2030, 4, 1)) == [
        ("2030-03-31T03:30+02:00", "03:50+02:00"),
        ("2030-04-01T02:30+02:00", "02:50+02:00"),
    ]


def test_what_would_end_before_it_begins_keeps_its_length() -> None:
    night = event("2030-03-30T02:30+01:00", "2030-03-30T03:10+01:00")

    assert local_times(night, date(2030, 3, 31)) == [("2030-03-31T03:30+02:00", "04:10+02:00")]


def test_a_time_that_clocks_show_twice_is_the_first() -> None:
    """On 27 October 2030 they go from 03:00 to 02:00."""
    night = event("2030-10-26T02:30+02:00", "2030-10-26T04:00+02:00")

    assert local_times(night, date(2030, 10, 27)) == [("2030-10-27T02:30+02:00", "04:00+01:00")]


def test_a_night_over_a_change_of_clocks_ends_when_it_is_said_to() -> None:
    night = event("2030-10-19T22:00+02:00", "2030-10-20T04:00+02:00")

    assert local_times(night, date(2030, 10, 26)) == [("2030-10-26T22:00+02:00", "04:00+01:00")]


def test_an_occurrence_that_has_been_moved_is_the_pattern_as_it_is_by_now() -> None:
    """It stands for the Tuesday and is on Wednesday, so that others like it are, too."""
    moved = event("2030-05-08T20:00+02:00", "2030-05-08T21:00+02:00")

    [slot] = slots(moved, date(2030, 5, 7), [date(2030, 5, 14)])

    assert (slot.date, slot.starts_at) == (date(2030, 5, 14), at("2030-05-15T20:00+02:00"))


def test_a_series_beyond_the_calendar_is_refused_as_input() -> None:
    last = event("9999-12-30T20:00+00:00", "9999-12-30T23:00+00:00", timezone="UTC")

    with pytest.raises(InvalidInputError, match="9999"):
        slots(last, date(9999, 12, 29), [date(9999, 12, 31)])


# On which dates ----------------------------------------------------------------------------------

TUESDAY = event("2030-05-07T19:00+02:00", "2030-05-07T21:00+02:00")


def planned(rule: str, **dates: list[str]) -> list[str]:
    wanted = SeriesIn.model_validate({"rule": rule, **dates})
    return [f"{day:%m-%d}" for day in planned_dates(wanted, date(2030, 5, 7), TUESDAY)]


def test_dates_can_be_left_out_and_added() -> None:
    found = planned(
        "FREQ=WEEKLY;COUNT=4", excluded_dates=["2030-05-21", "2030-05-14"], extra_dates=["2030-05-30", "2030-05-28"]
    )

    assert found == ["05-07", "05-28", "05-30"]


@pytest.mark.parametrize(
    ("dates", "pointer", "problem"),
    [
        ({"excluded_dates": ["2030-05-15"]}, "/excluded_dates", "the rule does not have 2030-05-15"),
        ({"extra_dates": ["2030-05-06"]}, "/extra_dates", "2030-05-06 is not within 10 years after 2030-05-07"),
        ({"extra_dates": ["2041-01-01"]}, "/extra_dates", "2041-01-01 is not within 10 years"),
        ({"extra_dates": [f"2031-{m:02}-{d:02}" for m in range(1, 13) for d in range(1, 29)] + [
            f"2032-01-{d:02}" for d in range(1, 29)]}, "/extra_dates", "at most 366 occurrences"),
    ],
)  # fmt: skip
def test_dates_that_do_not_fit_are_named(dates: dict[str, list[str]], pointer: str, problem: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        planned("FREQ=WEEKLY;COUNT=4", **dates)

    assert refused.value.errors[0].pointer == pointer
    assert problem in refused.value.errors[0].detail


@pytest.mark.parametrize(
    "body",
    [
        {"excluded_dates": ["2030-05-14T00:00:00Z"]},
        {"excluded_dates": [1_905_000_000]},
        {"excluded_dates": ["2030-05-14"], "extra_dates": ["2030-05-14"]},
        {"until": "2030-05-14"},
    ],
)
def test_what_is_no_date_or_contradicts_itself_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        SeriesIn.model_validate({"rule": "FREQ=WEEKLY;COUNT=4", **body})


# What a change does to the others ----------------------------------------------------------------

MARCH, APRIL, MAY = (
    occurrence(1, "2030-03-26T19:00+01:00", "2030-03-26T21:00+01:00"),
    occurrence(2, "2030-04-30T19:00+02:00", "2030-04-30T21:00+02:00"),
    occurrence(3, "2030-05-28T19:00+02:00", "2030-05-28T21:00+02:00"),
)


def changed(*events: KnownEvent, **patch: Any) -> dict[int, Any]:
    return wanted_changes(events[0], events, EventPatch.model_validate(patch), NOW)


def test_a_moved_time_moves_the_others_by_the_wall_clock() -> None:
    wanted = changed(MARCH, APRIL, MAY, starts_at="2030-03-27T20:30:00+01:00", ends_at="2030-03-27T22:00:00+01:00")

    assert [(w.starts_at, w.ends_at) for w in wanted.values()] == [
        (at("2030-03-27T20:30+01:00"), at("2030-03-27T22:00+01:00")),
        (at("2030-05-01T20:30+02:00"), at("2030-05-01T22:00+02:00")),
        (at("2030-05-29T20:30+02:00"), at("2030-05-29T22:00+02:00")),
    ]


def test_another_length_is_that_of_the_others_too_and_their_starts_stay() -> None:
    wanted = changed(MARCH, APRIL, ends_at="2030-03-26T22:00:00+01:00")

    assert (wanted[2].starts_at, wanted[2].ends_at) == (APRIL.starts_at, at("2030-04-30T22:00+02:00"))


def test_an_occurrence_that_was_moved_by_itself_keeps_its_distance() -> None:
    moved = APRIL.model_copy(
        update={"starts_at": at("2030-05-01T18:00+02:00"), "ends_at": at("2030-05-01T20:00+02:00")}
    )

    wanted = changed(MARCH, moved, starts_at="2030-03-26T20:00:00+01:00", ends_at="2030-03-26T22:00:00+01:00")

    assert wanted[2].starts_at == at("2030-05-01T19:00+02:00")


def test_another_zone_is_told_by_the_wall_clock_of_the_addressed_one() -> None:
    """New York has its summer already when Berlin has not: 19:00 in Berlin is 14:00 there in March, 13:00 in May."""
    wanted = changed(MARCH, MAY, timezone="America/New_York")

    assert wanted[1].starts_at == MARCH.starts_at
    assert wanted[3].starts_at == at("2030-05-28T14:00-04:00")
    assert {w.timezone for w in wanted.values()} == {"America/New_York"}


def test_what_an_occurrence_has_of_its_own_stays_unless_that_very_field_is_set() -> None:
    own = APRIL.model_copy(update={"title": "Choir with guests", "capacity": 99})

    wanted = changed(MARCH, own, capacity=20, location={"lat": 52.5, "lon": 13.4})

    assert (wanted[2].title, wanted[2].capacity) == ("Choir with guests", 20)
    assert wanted[2].location.model_dump() == {"name": "Berlin", "lat": 52.5, "lon": 13.4}


def test_what_becomes_nothing_else_is_not_changed() -> None:
    quiet = APRIL.model_copy(update={"title": "Silence"})

    assert set(changed(MARCH, quiet, MAY, title="Silence")) == {1, 3}


@pytest.mark.parametrize(
    "past",
    [
        {"status": "cancelled"},
        {"status": "completed"},
        {"status": "published", "starts_at": NOW - timedelta(hours=1)},
        {"starts_at": NOW - timedelta(days=1)},
    ],
)
def test_what_is_past_or_off_stays_as_it_was(past: dict[str, Any]) -> None:
    assert set(changed(MARCH, APRIL.model_copy(update=past), MAY, title="Silence")) == {1, 3}


def test_the_occurrence_that_cannot_change_so_is_named() -> None:
    sold = APRIL.model_copy(update={"status": "published"})
    soon = APRIL.model_copy(update={"starts_at": NOW + timedelta(hours=1), "ends_at": NOW + timedelta(hours=2)})

    with pytest.raises(ConflictError, match=r"The occurrence of 2030-04-30, event 2: .*price") as priced:
        changed(MARCH, sold, price={"amount": 5, "currency": "EUR"})
    with pytest.raises(InvalidInputError) as early:
        changed(MARCH, soon, starts_at="2030-03-26T12:00:00+01:00")

    assert priced.value.extensions == {"fields": ["price"], "event_id": 2}
    assert early.value.errors[0].pointer == "/starts_at"
    assert "event 2: must be in the future" in early.value.errors[0].detail


def test_a_moment_in_an_hour_that_clocks_show_twice_is_not_touched_by_what_moves_nothing() -> None:
    second = occurrence(2, "2030-10-27T02:30+01:00", "2030-10-27T04:00+01:00")

    wanted = changed(MARCH, second, title="Silence", ends_at="2030-03-26T22:00:00+01:00")

    assert wanted[2].starts_at == second.starts_at
