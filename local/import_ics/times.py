"""When an entry takes place: every way iCalendar has of saying so, as two moments and an IANA time zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from icalendar import Event
from icalendar.timezone import tzp

# An entry without an end has no length at all (RFC 5545 §3.6.1); an event of the platform has one.
ASSUMED_LENGTH = timedelta(hours=1)


class TimesError(ValueError):
    """The times of an entry cannot be read; the message says why in plain words."""


@dataclass(frozen=True)
class CalendarZones:
    """The time zones a file brings along and what counts where it names none.

    `default` is for floating times and whole days, `display` for times in UTC. `own` maps the id of a zone that only
    the file defines to the IANA name it gives for it, if any; `broken` maps the ids of unusable definitions to why.
    """

    default: ZoneInfo
    display: ZoneInfo | None
    own: Mapping[str, str | None]
    broken: Mapping[str, str]


@dataclass(frozen=True)
class Times:
    """`timezone` is the IANA zone to show the moments in; `notes` say what was assumed."""

    starts_at: datetime
    ends_at: datetime
    timezone: str
    notes: tuple[str, ...]


def read_times(event: Event, zones: CalendarZones) -> Times:
    """Raises TimesError when there is no usable start, or the end is before it."""
    start = _value(event, "DTSTART")
    if start is None:
        raise TimesError("it has no start (DTSTART)")
    notes: list[str] = []
    if not isinstance(start, datetime):
        starts_at, zone_name = datetime.combine(start, time(), zones.default), zones.default.key
    elif start.tzinfo is None:
        _require_known_zone(event, "DTSTART", zones)
        starts_at, zone_name = start.replace(tzinfo=zones.default), zones.default.key
        notes.append(f"its time names no time zone; taken as {zones.default.key}")
    else:
        starts_at = start
        named = _iana_name(event, start, zones)
        zone_name = named or "UTC"
        if named is None:
            notes.append(f"its time zone {_tzid(event, 'DTSTART')!r} has no IANA name; shown in UTC")

    ends_at = _end(event, start, starts_at, zones)
    if ends_at is None or ends_at == starts_at:
        ends_at = starts_at + ASSUMED_LENGTH
        notes.append("it has no end; taken to last an hour")
    try:
        starts_at, ends_at = starts_at.astimezone(UTC), ends_at.astimezone(UTC)
    except OverflowError as error:
        raise TimesError("its time is out of range") from error
    if ends_at < starts_at:
        raise TimesError("it ends before it starts")
    return Times(starts_at, ends_at, zone_name, tuple(notes))


def find_zone(name: str) -> ZoneInfo | None:
    """The IANA zone for an IANA or Windows name, or for a name that ends in one (RFC 5545 §3.2.19)."""
    try:
        zone = tzp.timezone(name)
    except (ValueError, OSError):  # the latter for the name of a directory of zones, such as "Europe"
        return None
    return zone if isinstance(zone, ZoneInfo) and zone.key in available_timezones() else None


def _end(event: Event, start: date, starts_at: datetime, zones: CalendarZones) -> datetime | None:
    """The end as a moment; for whole days the midnight after the last one."""
    end = _value(event, "DTEND")
    if end is not None:
        if isinstance(end, datetime) != isinstance(start, datetime):
            raise TimesError("one of its start and end is a date, the other a time")
        if not isinstance(end, datetime):
            # Some write the last day itself where RFC 5545 §3.6.1 wants the one after it.
            return datetime.combine(end if end != start else end + timedelta(days=1), time(), zones.default)
        if end.tzinfo is None:
            _require_known_zone(event, "DTEND", zones)
            return end.replace(tzinfo=starts_at.tzinfo)
        return end
    try:
        duration = _value(event, "DURATION")
        if duration is None:
            return None if isinstance(start, datetime) else starts_at + timedelta(days=1)
        # Days are counted on the calendar, hours on the clock (RFC 5545 §3.3.6).
        whole_days = timedelta(days=duration.days)
        return (starts_at + whole_days).astimezone(UTC) + (duration - whole_days)
    except OverflowError as error:
        raise TimesError("its end is out of range") from error


def _value(event: Event, name: str) -> Any:
    """The date, time or duration of a property, None when absent."""
    found = event.get(name)
    if isinstance(found, list):
        raise TimesError(f"it has {name} more than once")
    if found is None:
        return None
    value = getattr(found, "dt", None)
    allowed = timedelta if name == "DURATION" else date
    if not isinstance(value, allowed):
        raise TimesError(f"its {name} cannot be read")
    return value


def _tzid(event: Event, name: str) -> str | None:
    found: str | None = event[name].params.get("TZID")
    return found


def _require_known_zone(event: Event, name: str, zones: CalendarZones) -> None:
    """A time without a zone that has a TZID is one whose zone was not found, not a floating one."""
    tzid = _tzid(event, name)
    if tzid is None:
        return
    if tzid in zones.broken:
        raise TimesError(f"its time zone {tzid!r} is not well defined in the file: {zones.broken[tzid]}")
    raise TimesError(f"its time zone {tzid!r} is unknown and the file does not define it")


def _iana_name(event: Event, start: datetime, zones: CalendarZones) -> str | None:
    if isinstance(start.tzinfo, ZoneInfo):
        if start.tzinfo.key == "UTC" and zones.display is not None:
            return zones.display.key
        return start.tzinfo.key if start.tzinfo.key in available_timezones() else None
    return zones.own.get(_tzid(event, "DTSTART") or "")
