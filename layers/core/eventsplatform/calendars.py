"""Events as iCalendar (RFC 5545), for the calendars that people keep: one as a file, or many as a subscription.

Its own module, because the library takes a third of a second to load and few functions need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

from icalendar import Calendar, Timezone, TimezoneDaylight, TimezoneStandard, vCalAddress
from icalendar import Event as Component

PRODUCT = "-//Events Platform//Events Platform 1//EN"
# How often who subscribes is asked to look again. Apple and Google take it for a hint, others do as they are told.
REFRESH = timedelta(hours=1)

EntryStatus = Literal["TENTATIVE", "CONFIRMED", "CANCELLED"]
_STATES: dict[str, EntryStatus] = {
    "draft": "TENTATIVE",
    "published": "CONFIRMED",
    "completed": "CONFIRMED",
    "cancelled": "CANCELLED",
}
# A whole year of a zone's changes on either side of what is in it.
_MARGIN = timedelta(days=400)
# No zone does something for less.
_STEP = timedelta(weeks=1)
_SECOND = timedelta(seconds=1)
_LAST = datetime(9998, 1, 1, tzinfo=UTC)


class Place(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def lat(self) -> float | None: ...
    @property
    def lon(self) -> float | None: ...


class Host(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...


class CalendarEvent(Protocol):
    """What a calendar says of an event; the catalog's events have it, and what other services know of them."""

    @property
    def id(self) -> int: ...
    @property
    def title(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def starts_at(self) -> datetime: ...
    @property
    def ends_at(self) -> datetime: ...
    @property
    def timezone(self) -> str: ...
    @property
    def location(self) -> Place: ...
    @property
    def category(self) -> str: ...
    @property
    def tags(self) -> list[str]: ...
    @property
    def status(self) -> str: ...
    @property
    def cancellation_reason(self) -> str | None: ...
    @property
    def organizer(self) -> Host: ...
    @property
    def version(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def updated_at(self) -> datetime: ...


@dataclass(frozen=True)
class Entry:
    """An event in a calendar. `sequence` grows whenever the entry says something else (§3.8.7.4)."""

    event: CalendarEvent
    status: EntryStatus
    sequence: int


def entry_of(event: CalendarEvent) -> Entry:
    """The event as everyone sees it."""
    return Entry(event, _STATES[event.status], event.version - 1)


@dataclass(frozen=True)
class CalendarFile:
    """`method` is that of iTIP (RFC 5546), which the media type repeats."""

    content: bytes
    method: Literal["PUBLISH", "CANCEL"]

    @property
    def media_type(self) -> str:
        return f"text/calendar; charset=utf-8; method={self.method}"


def calendar_file(event: CalendarEvent) -> CalendarFile:
    """The calendar of one event, to be taken over into another. The same version gives the same bytes.

    A later version replaces it wherever it is kept, and one that is cancelled takes it away (RFC 5546 §4.1.3).
    """
    entry = entry_of(event)
    method: Literal["PUBLISH", "CANCEL"] = "CANCEL" if entry.status == "CANCELLED" else "PUBLISH"
    calendar = _calendar()
    calendar.add("method", method)
    return CalendarFile(_written(calendar, [entry]), method)


def calendar_feed(entries: Sequence[Entry], name: str) -> bytes:
    """A calendar that is subscribed to: it says what there is, and has no method."""
    calendar = _calendar()
    calendar.add("name", name)
    calendar.add("x-wr-calname", name)
    calendar.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    calendar.add("x-published-ttl", "PT1H")
    return _written(calendar, entries)


def _calendar() -> Calendar:
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    return calendar


def _written(calendar: Calendar, entries: Sequence[Entry]) -> bytes:
    for zone in _zones(entry.event for entry in entries):
        calendar.add_component(zone)
    for entry in entries:
        calendar.add_component(_component(entry))
    content: bytes = calendar.to_ical()
    return content


def _component(entry: Entry) -> Component:
    event, zone = entry.event, ZoneInfo(entry.event.timezone)
    component = Component()
    component.add("uid", f"event-{event.id}@events-platform")
    component.add("sequence", entry.sequence)
    component.add("dtstamp", event.updated_at)
    component.add("created", event.created_at)
    component.add("last-modified", event.updated_at)
    component.add("dtstart", _local(event.starts_at, zone))
    component.add("dtend", _local(event.ends_at, zone))
    component.add("status", entry.status)
    component.add("summary", event.title)
    component.add("location", event.location.name)
    component.add("categories", [event.category, *event.tags])
    component.add("organizer", _organizer(event.organizer))
    if text := _described(event):
        component.add("description", text)
    if event.location.lat is not None:
        component.add("geo", (event.location.lat, event.location.lon))
    return component


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    """In UTC where it is one of two that clocks show alike: without an offset it would be read as the first."""
    local = moment.astimezone(zone)
    return moment.astimezone(UTC) if local.fold else local


def _organizer(host: Host) -> Any:
    """iTIP wants one. Nobody's mail address is told: it is a name, and a number that leads to their profile."""
    address = vCalAddress(f"urn:events-platform:user:{host.id}")
    address.params["CN"] = host.name
    return address


def _described(event: CalendarEvent) -> str:
    paragraphs = [event.cancellation_reason or "", event.description]
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    # A carriage return alone is a line's end to some readers, and is not escaped as one.
    return text.replace("\r\n", "\n").replace("\r", "\n")


# Time zones --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Observance:
    """What a zone does for a while."""

    offset_before: timedelta
    offset: timedelta
    name: str
    is_standard: bool


def _zones(events: Iterable[CalendarEvent]) -> Iterator[Timezone]:
    moments: dict[str, list[datetime]] = {}
    for event in events:
        moments.setdefault(event.timezone, []).extend((event.starts_at, event.ends_at))
    for name in sorted(moments.keys() - {"UTC"}):
        yield _zone(name, moments[name])


def _zone(name: str, moments: Iterable[datetime]) -> Timezone:
    """The zone as it is around each of the moments.

    Not by the library: its onsets are by the clock that has been set, an hour late where it is set forward. §3.6.5 has
    them by the clock before: TZOFFSETFROM is what they are combined with.
    """
    component = Timezone()
    component.add("tzid", name)
    onsets: dict[_Observance, list[datetime]] = {}
    for first, last in _spans(moments):
        for onset, observance in _observances(ZoneInfo(name), first, last):
            onsets.setdefault(observance, []).append((onset + observance.offset_before).replace(tzinfo=None))
    for observance, (start, *others) in onsets.items():
        part = TimezoneStandard() if observance.is_standard else TimezoneDaylight()
        part.add("dtstart", start)
        if others:
            part.add("rdate", others)
        part.add("tzoffsetfrom", observance.offset_before)
        part.add("tzoffsetto", observance.offset)
        part.add("tzname", observance.name)
        component.add_component(part)
    return component


def _spans(moments: Iterable[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """What is within the margin of any of the moments, in order: events may be millennia apart, or as long."""
    spans: list[tuple[datetime, datetime]] = []
    for moment in sorted(min(moment, _LAST) for moment in moments):
        first, last = moment.replace(microsecond=0) - _MARGIN, moment + _MARGIN
        if spans and first <= spans[-1][1]:
            first, _ = spans.pop()
        spans.append((first, last))
    yield from spans


def _observances(zone: ZoneInfo, first: datetime, last: datetime) -> Iterator[tuple[datetime, _Observance]]:
    """What the zone does at `first`, and each time when it does something else until `last`."""
    moment, known = first, _state(zone, first)
    yield first, _Observance(known[0], *known)
    while moment < last:
        following = moment + _STEP
        if (state := _state(zone, following)) != known:
            yield _onset(zone, moment, following), _Observance(known[0], *state)
            known = state
        moment = following


def _state(zone: ZoneInfo, moment: datetime) -> tuple[timedelta, str, bool]:
    local = moment.astimezone(zone)
    return local.utcoffset() or timedelta(), local.tzname() or "", not local.dst()


def _onset(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second that is as `after` and not as `before`."""
    unlike = _state(zone, after)
    while (gap := (after - before) // _SECOND) > 1:
        middle = before + gap // 2 * _SECOND
        before, after = (before, middle) if _state(zone, middle) == unlike else (middle, after)
    return after
