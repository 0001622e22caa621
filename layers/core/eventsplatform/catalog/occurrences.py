"""The occurrences of a series: when each of them is, which of them a change is about, and what becomes of each.

An occurrence is an event of its own. What ties it to its series is the date of the rule that it stands for
(RECURRENCE-ID in RFC 5545), which stays whatever becomes of its time. So changing those from one on splits nothing: it
is RANGE=THISANDFUTURE (§3.2.13), and what an occurrence has of its own stays unless that very field is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from eventsplatform.catalog.model import (
    Event,
    EventIn,
    EventPatch,
    KnownEvent,
    check_change,
    merged,
    patched,
    written,
)
from eventsplatform.catalog.recurrence import OCCURRENCES_MAXIMUM, RULE_MAXIMUM, YEARS_MAXIMUM, RecurrenceRule
from eventsplatform.errors import ConflictError, FieldError, InvalidInputError
from eventsplatform.fields import Day
from eventsplatform.pagination import DEFAULT_LIMIT, MAXIMUM_LIMIT, Page

Scope = Annotated[
    Literal["this", "following", "all"],
    Field(description="Of its series: this event alone, it and those of later dates, or all. What is past stays."),
]


def _in_normal_form(rule: str) -> str:
    return str(RecurrenceRule.parse(rule))


def _in_order(dates: list[date]) -> list[date]:
    return sorted(set(dates))


Rule = Annotated[str, Field(max_length=RULE_MAXIMUM), AfterValidator(_in_normal_form)]
Dates = Annotated[list[Day], Field(max_length=OCCURRENCES_MAXIMUM), AfterValidator(_in_order)]


class SeriesIn(BaseModel):
    """The body of `POST /v1/events/{id}/series`. Dates are of the event's own time zone."""

    model_config = ConfigDict(extra="forbid")

    rule: Rule = Field(
        description="An RRULE (RFC 5545 §3.3.10) that ends, with COUNT or UNTIL. Its first date is the event's.",
        examples=["FREQ=WEEKLY;BYDAY=TU;COUNT=10"],
    )
    excluded_dates: Dates = Field(default=[], description="Dates of the rule without an occurrence.")
    extra_dates: Dates = Field(default=[], description="Dates with an occurrence though the rule does not have them.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if both := set(self.excluded_dates) & set(self.extra_dates):
            raise ValueError(f"{min(both)} is among the excluded and the extra dates")
        return self


class SeriesQuery(BaseModel):
    """The query string of `GET /v1/events/{id}/series`. Occurrences come in the order of their dates."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAXIMUM_LIMIT)
    cursor: str | None = Field(default=None, max_length=500)


class Series(BaseModel):
    """The dates of a series. Its occurrences may have been moved since: each says itself when it is."""

    id: int
    rule: str
    starts_on: date = Field(description="DTSTART: the first date of the rule.")
    excluded_dates: list[date]
    extra_dates: list[date]


class SeriesMade(Series):
    event_ids: list[int] = Field(description="The occurrences, by their dates.")


class SeriesPage(Page[Event]):
    series: Series


@dataclass(frozen=True)
class Slot:
    """An occurrence that is to be: its date in the series, and its time."""

    date: date
    starts_at: datetime
    ends_at: datetime


# Wall clocks -------------------------------------------------------------------------------------


def wall_clock(moment: datetime, timezone: str) -> datetime:
    """What clocks in the zone show, without an offset."""
    return moment.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)


def moment_at(wall_clock: datetime, timezone: str) -> datetime:
    """When clocks in the zone show this: the first time if twice, and if never as they would have without being set.

    So says RFC 5545 §3.3.5 of a time, and so does Python. That §3.3.10 would leave an occurrence out whose time does
    not exist is not followed: people rather come an hour later than not at all.
    """
    return wall_clock.replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def _period(starts: datetime, ends: datetime, timezone: str) -> tuple[datetime, datetime]:
    """Both by the wall clock; by its length what would end before it begins because clocks are set in it."""
    starts_at, ends_at = moment_at(starts, timezone), moment_at(ends, timezone)
    return starts_at, ends_at if ends_at > starts_at else starts_at + (ends - starts)


@contextmanager
def _within_the_calendar(pointer: str) -> Iterator[None]:
    try:
        yield
    except OverflowError as error:
        raise InvalidInputError([FieldError(pointer, "an occurrence would be after the year 9999")]) from error


# The dates of a series ---------------------------------------------------------------------------


def starting_date(event: Event) -> date:
    return wall_clock(event.starts_at, event.timezone).date()


def planned_dates(wanted: SeriesIn, starts_on: date, pattern: Event) -> list[date]:
    """The dates on which there is to be an occurrence, for a series that begins on `starts_on`.

    Raises InvalidInputError for a rule that has no end in bounds or not this date, and for dates that fit none.
    """
    time_of_day = wall_clock(pattern.starts_at, pattern.timezone).time()
    try:
        of_rule = RecurrenceRule.parse(wanted.rule).dates(starts_on, time_of_day, ZoneInfo(pattern.timezone))
    except ValueError as error:
        raise InvalidInputError([FieldError("/rule", str(error))]) from error
    problems = [
        FieldError("/excluded_dates", f"the rule does not have {day}")
        for day in wanted.excluded_dates
        if day not in of_rule
    ]
    problems += [
        FieldError("/extra_dates", f"{day} is not within {YEARS_MAXIMUM} years after {starts_on}")
        for day in wanted.extra_dates
        if not timedelta() < day - starts_on <= timedelta(days=YEARS_MAXIMUM * 366)
    ]
    dates = sorted({*of_rule, *wanted.extra_dates} - {*wanted.excluded_dates})
    if len(dates) > OCCURRENCES_MAXIMUM:
        problems.append(FieldError("/extra_dates", f"a series has at most {OCCURRENCES_MAXIMUM} occurrences"))
    if problems:
        raise InvalidInputError(problems)
    return dates


def slots(pattern: Event, pattern_date: date, dates: Iterable[date]) -> list[Slot]:
    """Occurrences on these dates that are, by the wall clock, when the pattern is on its own."""
    starts, ends = wall_clock(pattern.starts_at, pattern.timezone), wall_clock(pattern.ends_at, pattern.timezone)
    midnight = datetime.combine(pattern_date, time())
    with _within_the_calendar("/rule"):
        return [
            Slot(day, *_period(begin + (starts - midnight), begin + (ends - midnight), pattern.timezone))
            for day in dates
            for begin in [datetime.combine(day, time())]
        ]


# Changes of several ------------------------------------------------------------------------------


def ahead(addressed: KnownEvent, events: Sequence[KnownEvent], now: datetime) -> list[KnownEvent]:
    """The addressed event, and of the others those that can still become something else."""
    return [
        event
        for event in events
        if event.id == addressed.id or (event.status in ("draft", "published") and event.starts_at > now)
    ]


def affected(
    addressed: KnownEvent, events: Sequence[KnownEvent], now: datetime, check: Callable[[KnownEvent], None]
) -> list[KnownEvent]:
    """Those ahead that `check` lets through. Raises what it says of the addressed one when none is left."""
    chosen, refusal = [], None
    for event in ahead(addressed, events, now):
        try:
            check(event)
        except ConflictError as error:
            refusal = error if event.id == addressed.id else refusal
        else:
            chosen.append(event)
    if refusal is not None and not chosen:
        raise refusal
    return chosen


@dataclass(frozen=True)
class Move:
    """By how much a change moves the wall clocks of a start and an end."""

    start: timedelta
    end: timedelta

    @classmethod
    def between(cls, before: Event, after: EventIn) -> Move:
        return cls(
            wall_clock(after.starts_at, after.timezone) - wall_clock(before.starts_at, before.timezone),
            wall_clock(after.ends_at, after.timezone) - wall_clock(before.ends_at, before.timezone),
        )

    def applied(self, event: Event, timezone: str) -> tuple[datetime, datetime]:
        """The start and the end of another occurrence, in the zone that it will be in."""
        starts, ends = wall_clock(event.starts_at, event.timezone), wall_clock(event.ends_at, event.timezone)
        # A sum forgets which of two times it was that clocks show twice.
        starts, ends = starts + self.start if self.start else starts, ends + self.end if self.end else ends
        return _period(starts, ends, timezone)


def wanted_changes(
    addressed: KnownEvent, events: Sequence[KnownEvent], patch: EventPatch, now: datetime
) -> dict[int, EventIn]:
    """What is to become of the addressed event and of the occurrences that are ahead, if it is another than now.

    Other occurrences get what the patch says, and their times move with the addressed one's. Raises InvalidInputError
    or ConflictError for the first that cannot change so, naming it.
    """
    after = patched(addressed, patch)
    check_change(addressed, after, now)
    wanted = {addressed.id: after}
    move = Move.between(addressed, after)
    document = {name: value for name, value in patch.as_document().items() if name not in ("starts_at", "ends_at")}
    for event in ahead(addressed, events, now):
        if event.id == addressed.id:
            continue
        with naming(event, addressed.id):
            wanted[event.id] = _moved(event, document, move)
            check_change(event, wanted[event.id], now)
    return {event.id: wanted[event.id] for event in events if wanted.get(event.id, written(event)) != written(event)}


@contextmanager
def naming(event: Event, addressed_id: int) -> Iterator[None]:
    """Says which occurrence it is that refuses, unless it is the one that the request names."""
    if event.id == addressed_id:
        yield
        return
    which = f"The occurrence of {event.series_date}, event {event.id}"
    try:
        yield
    except InvalidInputError as error:
        named = [FieldError(each.pointer, f"{which}: {each.detail}") for each in error.errors]
        raise InvalidInputError(named) from error
    except ConflictError as error:
        extensions: Mapping[str, Any] = {**error.extensions, "event_id": event.id}
        raise ConflictError(f"{which}: {error.detail}", **extensions) from error


def _moved(event: Event, document: dict[str, Any], move: Move) -> EventIn:
    wanted = merged(event, document)
    with _within_the_calendar("/starts_at"):
        starts_at, ends_at = move.applied(event, wanted.timezone)
    if ends_at <= starts_at:
        raise InvalidInputError([FieldError("", "ends_at must be after starts_at")])
    return wanted.model_copy(update={"starts_at": starts_at, "ends_at": ends_at})
