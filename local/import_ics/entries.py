"""What an iCalendar file holds for the platform: events to publish, and entries that cannot be, with the reason."""

from __future__ import annotations

import hashlib
import re
import uuid
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, cast
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events
from icalendar import Event, Timezone, vGeo
from icalendar.error import GloballyUniqueTZIDGuessed
from pydantic import ValidationError

from eventsplatform.catalog.model import DESCRIPTION_MAXIMUM, TITLE_MAXIMUM, EventIn
from local.import_ics.calendar_file import Block, CalendarFileError, CalendarSource, cut_up
from local.import_ics.categories import choose_category
from local.import_ics.times import CalendarZones, Times, TimesError, find_zone, read_times

DEFAULT_CAPACITY = 100

_LOCATION_MAXIMUM = 500
_TAGS_MAXIMUM, _TAG_MAXIMUM = 20, 50
_NOT_EVENTS = {"VTODO": "it is a to-do, not an event", "VJOURNAL": "it is a journal entry, not an event"}
_ENTRIES = frozenset({"VEVENT", *_NOT_EVENTS})
_RECURRENCE = ("RRULE", "RDATE")
# A property that decides whether and when an entry may be published must be readable; others may be left out.
_DECISIVE = re.compile(
    r"(DTSTART|DTEND|DURATION|RRULE|RDATE|EXDATE|RECURRENCE-ID|STATUS|CLASS|SUMMARY)\b", re.IGNORECASE
)
_OCCURRENCES_LOOKED_AT = 1_000


@dataclass(frozen=True)
class Entry:
    """An event to publish. `notes` say what was assumed or left out; `line` is where it begins in the file."""

    line: int
    uid: str
    sequence: int
    event: EventIn
    notes: tuple[str, ...]

    def idempotency_key(self, step: str) -> str:
        """The same for the same revision of the same occurrence, however often the file is imported."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.uid}\n{self.sequence}\n{self.event.starts_at}\n{step}"))


@dataclass(frozen=True)
class Refusal:
    """An entry that is not taken, and why, in plain words. `summary` and `uid` are empty where it has none."""

    line: int
    uid: str
    summary: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """Everything in a file, in its order."""

    entries: tuple[Entry, ...]
    refusals: tuple[Refusal, ...]


class _RefusedError(ValueError):
    """This entry cannot be taken; the message is the reason."""


@dataclass(frozen=True)
class _Source:
    """A parsed VEVENT and where it came from."""

    block: Block
    event: Event

    @property
    def uid(self) -> str:
        return _text(self.event, "UID") or f"sha256:{hashlib.sha256(self.block.text.encode()).hexdigest()}"

    @property
    def sequence(self) -> int:
        text = _text(self.event, "SEQUENCE")
        return int(text) if text.isdecimal() else 0

    def refused(self, reason: str) -> Refusal:
        return Refusal(self.block.line, _text(self.event, "UID"), _text(self.event, "SUMMARY"), reason)


def read_calendar(
    data: bytes,
    now: datetime,
    *,
    capacity: int = DEFAULT_CAPACITY,
    timezone: str = "UTC",
    encoding: str = "utf-8",
) -> Reading:
    """The events of a file that start after `now`, and everything else in it with the reason it is left out.

    `timezone` is the IANA zone of times that name none and of whole days, unless the calendar has one of its own.
    An event that repeats is taken once, at its next occurrence.
    Raises CalendarFileError for what is not an iCalendar file, ValueError for an unknown `timezone`.
    """
    default = find_zone(timezone)
    if default is None:
        raise ValueError(f"{timezone!r} is not an IANA time zone name such as 'Europe/Berlin'")
    calendars = cut_up(data, encoding)
    if not any(block.name in _ENTRIES for calendar in calendars for block in calendar.blocks):
        raise CalendarFileError("the calendar has no events")
    entries: list[Entry] = []
    refusals: list[Refusal] = []
    with warnings.catch_warnings():
        # `/vendor/Europe/Berlin` for Berlin is what its writers mean.
        warnings.simplefilter("ignore", GloballyUniqueTZIDGuessed)
        for calendar in calendars:
            for outcome in _read(calendar, now, capacity, default):
                if isinstance(outcome, Entry):
                    entries.append(outcome)
                else:
                    refusals.append(outcome)
    return Reading(
        tuple(sorted(entries, key=lambda entry: entry.line)), tuple(sorted(refusals, key=lambda refusal: refusal.line))
    )


def _read(calendar: CalendarSource, now: datetime, capacity: int, default: ZoneInfo) -> Iterator[Entry | Refusal]:
    scale = calendar.properties.get("CALSCALE", "GREGORIAN")
    if scale.upper() != "GREGORIAN":
        raise CalendarFileError(f"the calendar counts in {scale!r}; only GREGORIAN is supported")
    zones = _read_zones(calendar, default)
    sources: dict[str, list[_Source]] = defaultdict(list)
    for block in calendar.blocks:
        if block.name in _NOT_EVENTS:
            yield Refusal(block.line, "", "", _NOT_EVENTS[block.name])
        elif block.name == "VEVENT":
            try:
                source = _Source(block, cast("Event", _parse(Event, block)))
            except _RefusedError as reason:
                yield Refusal(block.line, "", "", f"it cannot be read: {reason}")
                continue
            if calendar.properties.get("METHOD", "").upper() == "CANCEL":
                yield source.refused("it is cancelled")
            else:
                sources[source.uid].append(source)
    for same_uid in sources.values():
        yield from _read_event(same_uid, zones, now, capacity)


def _read_zones(calendar: CalendarSource, default: ZoneInfo) -> CalendarZones:
    """Make the calendar's own time zones known to icalendar, in place of those of the calendar before."""
    icalendar.use_zoneinfo()
    own: dict[str, str | None] = {}
    broken: dict[str, str] = {}
    for block in calendar.blocks:
        if block.name != "VTIMEZONE":
            continue
        tzid_line = re.search(r"^TZID\b[^:\n]*:(.*?)\s*$", block.text, re.IGNORECASE | re.MULTILINE)
        tzid = tzid_line[1] if tzid_line else ""
        known = find_zone(tzid)  # asked first, for a definition takes the id's place
        try:
            definition = _parse(Timezone, block)
        except _RefusedError as reason:
            broken[tzid] = f"line {block.line}: {reason}"
        else:
            named = find_zone(_text(definition, "X-LIC-LOCATION")) or known
            own[tzid] = named.key if named else None
    display = find_zone(calendar.properties.get("X-WR-TIMEZONE", ""))
    return CalendarZones(display or default, display, own, broken)


def _parse(kind: type[icalendar.Component], block: Block) -> icalendar.Component:
    """Raises _RefusedError for a component that icalendar cannot read."""
    try:
        return kind.from_ical(block.text)
    except ValueError as error:
        raise _RefusedError(str(error)) from error
    except Exception as error:
        # It checks much but not all: a doubled TZID ends in an AttributeError, a directory's name in an OSError.
        raise _RefusedError(f"it is malformed ({type(error).__name__})") from error


def _read_event(
    sources: Sequence[_Source], zones: CalendarZones, now: datetime, capacity: int
) -> Iterator[Entry | Refusal]:
    """One event: a single one, or a series with the exceptions to it."""
    masters = sorted(
        (source for source in sources if "RECURRENCE-ID" not in source.event), key=lambda source: source.sequence
    )
    for outdated in masters[:-1]:
        yield outdated.refused("a later revision of it, with the same UID, is in the file as well")
    exceptions = [source for source in sources if "RECURRENCE-ID" in source.event]
    if not masters:
        for source in exceptions:
            yield _decide(source, source.event, zones, now, capacity)
        return
    master = masters[-1]
    if not any(name in master.event for name in _RECURRENCE):
        yield _decide(master, master.event, zones, now, capacity)
        return
    try:
        _require_readable(master.event)
        _require_public(master.event)
        occurrence = _next_occurrence(master.event, [source.event for source in exceptions], zones, now)
    except (_RefusedError, TimesError) as reason:
        yield master.refused(str(reason))
    else:
        yield _decide(master, occurrence, zones, now, capacity, "it repeats; only its next occurrence is taken")


def _decide(
    source: _Source,
    event: Event,
    zones: CalendarZones,
    now: datetime,
    capacity: int,
    *notes: str,
) -> Entry | Refusal:
    try:
        _require_readable(event)
        _require_public(event)
        times = read_times(event, zones)
        if times.starts_at <= now:
            raise _RefusedError(f"it has already started, on {times.starts_at:%Y-%m-%d %H:%M} UTC")
        body, more_notes = _body(event, times, capacity)
        return Entry(
            source.block.line, source.uid, source.sequence, EventIn.model_validate(body), (*notes, *more_notes)
        )
    except ValidationError as error:
        return source.refused("; ".join(_plain_words(error)))
    except (_RefusedError, TimesError) as reason:
        return source.refused(str(reason))


def _require_readable(event: Event) -> None:
    for name, message in event.errors:
        line = name or message.partition("'")[2]
        if found := _DECISIVE.match(line):
            raise _RefusedError(f"its {found[1].upper()} cannot be read: {message}")


def _require_public(event: Event) -> None:
    if _text(event, "STATUS").upper() == "CANCELLED":
        raise _RefusedError("it is cancelled")
    if _text(event, "CLASS").upper() not in ("", "PUBLIC"):
        # RFC 5545 §3.8.1.3: what is not known must be treated as private.
        raise _RefusedError(f"it is marked {_text(event, 'CLASS').lower()}")


def _next_occurrence(master: Event, exceptions: Iterable[Event], zones: CalendarZones, now: datetime) -> Event:
    """The first occurrence after `now` that is not cancelled. Raises _RefusedError when there is none."""
    if any(frequency in ("SECONDLY", "MINUTELY", "HOURLY") for frequency in _frequencies(master)):
        raise _RefusedError("it repeats more than once a day")
    read_times(master, zones)
    series = icalendar.Calendar()
    if zones.display is not None:
        series.add("X-WR-TIMEZONE", zones.display.key)
    for event in (master, *exceptions):
        series.add_component(event)
    try:
        for occurrence in islice(recurring_ical_events.of(series).after(now), _OCCURRENCES_LOOKED_AT):
            cancelled = _text(occurrence, "STATUS").upper() == "CANCELLED"
            if not cancelled and read_times(occurrence, zones).starts_at > now:
                return occurrence
    except ValueError as error:
        raise _RefusedError(f"its recurrence cannot be computed: {error}") from error
    except Exception as error:
        # Values that fit the grammar but not each other, such as a time of day among dates, end in any kind of error.
        raise _RefusedError("its recurrence cannot be computed: its dates and times do not go together") from error
    raise _RefusedError("it repeats, but never again from now on")


def _frequencies(event: Event) -> Iterator[str]:
    rules = event.get("RRULE", [])
    for rule in rules if isinstance(rules, list) else [rules]:
        yield from (str(frequency).upper() for frequency in rule.get("FREQ", []))


def _body(event: Event, times: Times, capacity: int) -> tuple[dict[str, Any], list[str]]:
    """What the API is sent, and notes on what was assumed or left out."""
    notes = list(times.notes)
    title = _text(event, "SUMMARY")
    if not title:
        raise _RefusedError("it has no title (SUMMARY)")
    if _text(event, "STATUS").upper() == "TENTATIVE":
        notes.append("it is marked tentative")
    location, location_notes = _location(event)
    category, tags = choose_category(str(label) for label in event.categories)
    kept = [tag for tag in tags if len(tag) <= _TAG_MAXIMUM][:_TAGS_MAXIMUM]
    if len(kept) < len(tags):
        notes.append(f"{len(tags) - len(kept)} of its categories are too many or too long for tags")
    body = {
        "title": _cut(title, TITLE_MAXIMUM, "title", notes),
        "description": _cut(_description(event), DESCRIPTION_MAXIMUM, "description", notes),
        "starts_at": times.starts_at.astimezone(UTC),
        "ends_at": times.ends_at.astimezone(UTC),
        "timezone": times.timezone,
        "location": location | {"name": _cut(location["name"], _LOCATION_MAXIMUM, "location", notes)},
        "capacity": capacity,
        "category": category,
        "tags": kept,
    }
    return body, notes + location_notes


def _description(event: Event) -> str:
    text, url = _text(event, "DESCRIPTION"), _text(event, "URL")
    return "\n\n".join(part for part in (text, "" if url in text else url) if part)


def _location(event: Event) -> tuple[dict[str, Any], list[str]]:
    name, place, notes = _text(event, "LOCATION"), {}, []
    geo = event.get("GEO")
    if isinstance(geo, vGeo) and abs(geo.latitude) <= 90 and abs(geo.longitude) <= 180:
        place = {"lat": geo.latitude, "lon": geo.longitude}
    elif geo is not None:
        notes.append("its position (GEO) is no position on Earth")
    if not name and place:
        name = f"{place['lat']:.5f}, {place['lon']:.5f}"
    elif not name and ("CONFERENCE" in event or "URL" in event):
        name = "Online"
        notes.append("it names no place; taken to be online")
    elif not name:
        name = "To be announced"
        notes.append("it names no place")
    return {"name": name, **place}, notes


def _text(component: icalendar.Component, name: str) -> str:
    """A text property without surrounding white space; the first one if there are several, empty if there is none."""
    value = component.get(name, "")
    return str(value[0] if isinstance(value, list) else value).strip()


def _cut(text: str, maximum: int, what: str, notes: list[str]) -> str:
    if len(text) <= maximum:
        return text
    notes.append(f"its {what} is cut to {maximum:,} characters")
    return text[: maximum - 1] + "…"


def _plain_words(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        yield f"its {' '.join(str(part) for part in fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
