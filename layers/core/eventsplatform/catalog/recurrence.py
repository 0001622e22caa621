"""The rule of a series: an RRULE of RFC 5545 §3.3.10, bounded, for occurrences that are days apart.

It is about dates: every occurrence begins at the time of day of the first, so there is at most one on a date.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

OCCURRENCES_MAXIMUM = 366
YEARS_MAXIMUM = 10
RULE_MAXIMUM = 300

_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_WEEKDAY = "(?:MO|TU|WE|TH|FR|SA|SU)"
# What each part may be, or each item of its list.
_FORMS = {
    name: re.compile(form, re.ASCII)
    for name, form in {
        "FREQ": "|".join(_FREQUENCIES),
        "INTERVAL": r"[1-9]\d{0,2}",
        "COUNT": r"[1-9]\d{0,3}",
        "UNTIL": r"[12]\d{7}(?:T\d{6}Z)?",
        "BYDAY": rf"(?:[+-]?[1-9]\d?)?{_WEEKDAY}",
        "BYMONTHDAY": r"-?(?:[1-9]|[12]\d|3[01])",
        "BYMONTH": r"[1-9]|1[0-2]",
        "BYSETPOS": r"-?[1-9]\d{0,2}",
        "WKST": _WEEKDAY,
    }.items()
}
_LISTS = {"BYDAY", "BYMONTHDAY", "BYMONTH", "BYSETPOS"}
_ALLOWED = {
    "FREQ": "one of " + ", ".join(_FREQUENCIES),
    "INTERVAL": "1 to 999",
    "COUNT": f"1 to {OCCURRENCES_MAXIMUM}",
    "UNTIL": "a date such as 20301231, or a time in UTC such as 20301231T180000Z",
    "BYDAY": "MO, TU, WE, TH, FR, SA, SU, by month or year also numbered: 2TU, -1FR",
    "BYMONTHDAY": "1 to 31, or -31 to -1",
    "BYMONTH": "1 to 12",
    "BYSETPOS": "1 to 999, or -999 to -1",
    "WKST": "one of MO, TU, WE, TH, FR, SA, SU",
}
_SPAN = timedelta(days=YEARS_MAXIMUM * 366)

# So many periods later nothing is looked at any more: days come to five centuries, years to beyond the calendar.
_FAR = 200_000


@dataclass(frozen=True)
class RecurrenceRule:
    """`pattern` are the parts that say which dates, without the end, which `count` or `until` says."""

    pattern: Mapping[str, str]
    count: int | None
    until: date | datetime | None

    @classmethod
    def parse(cls, text: str) -> RecurrenceRule:
        """Raises ValueError, naming the part that is wrong and what is allowed."""
        parts: dict[str, str] = {}
        for part in text.strip().upper().removeprefix("RRULE:").rstrip(";").split(";"):
            name, equals, value = part.partition("=")
            if not equals or name not in _FORMS:
                raise ValueError(f"{name[:20]!r} is no part of a rule here; allowed: {', '.join(_FORMS)}")
            if name in parts:
                raise ValueError(f"{name} is there twice")
            items = value.split(",") if name in _LISTS else [value]
            for item in items:
                if not _FORMS[name].fullmatch(item):
                    raise ValueError(f"{name} is {item[:20]!r}; allowed: {_ALLOWED[name]}")
            parts[name] = value
        _check_together(parts)
        count, until = parts.pop("COUNT", None), parts.pop("UNTIL", None)
        return cls(parts, int(count) if count else None, _moment(until) if until else None)

    def __str__(self) -> str:
        parts = [f"{name}={value}" for name, value in self.pattern.items()]
        if self.count is not None:
            parts.append(f"COUNT={self.count}")
        if self.until is not None:
            is_moment = isinstance(self.until, datetime)
            parts.append(f"UNTIL={self.until:%Y%m%dT%H%M%SZ}" if is_moment else f"UNTIL={self.until:%Y%m%d}")
        return ";".join(parts)

    def dates(self, first: date, time_of_day: time, zone: ZoneInfo) -> list[date]:
        """The dates of a series that begins on `first`, at this time of day in its zone.

        Raises ValueError when `first` is none of them, when there are more than OCCURRENCES_MAXIMUM, or when the last
        is more than YEARS_MAXIMUM away.
        """
        # Its import costs a tenth of a cold start, and few requests are about a rule.
        from dateutil.rrule import rrulestr

        begin = datetime.combine(first, time())
        text = ";".join(f"{name}={value}" for name, value in self.pattern.items())
        pattern = rrulestr(text, dtstart=begin)
        # A rule that never comes true would be searched to the end of the calendar, for many seconds: whether it has
        # the first date is seen in the first period alone, and what is true once is so again.
        if next(iter(pattern.replace(interval=_FAR)), None) != begin:
            raise ValueError(f"the event is on {first:%A, %d %B %Y}, which is no date of this rule")
        horizon = date.max if first > date.max - _SPAN else first + _SPAN
        end = self._end(time_of_day, zone)
        if end is not None and end < first:
            raise ValueError(f"UNTIL is before the event itself, which is on {first}")
        if end is not None and end > horizon:
            raise ValueError(f"a series spans {YEARS_MAXIMUM} years at most; UNTIL is after {horizon}")
        found = (moment.date() for moment in pattern.replace(until=datetime.combine(horizon, time())))
        within = found if end is None else takewhile(partial(_not_after, end), found)
        dates = list(islice(within, self.count or OCCURRENCES_MAXIMUM + 1))
        if self.count is not None and len(dates) < self.count:
            raise ValueError(
                f"a series spans {YEARS_MAXIMUM} years at most, in which this rule has {len(dates)} dates and not "
                f"{self.count}"
            )
        if len(dates) > OCCURRENCES_MAXIMUM:
            raise ValueError(f"the rule has more than {OCCURRENCES_MAXIMUM} dates until {end}")
        return dates

    def _end(self, time_of_day: time, zone: ZoneInfo) -> date | None:
        """The last date on which an occurrence may begin."""
        if not isinstance(self.until, datetime):
            return self.until
        local = self.until.astimezone(zone)
        return local.date() if time_of_day <= local.time() else local.date() - timedelta(days=1)


def _check_together(parts: Mapping[str, str]) -> None:
    frequency = parts.get("FREQ")
    if frequency is None:
        raise ValueError(f"FREQ is missing; allowed: {_ALLOWED['FREQ']}")
    if ("COUNT" in parts) == ("UNTIL" in parts):
        raise ValueError("a series must end: either COUNT or UNTIL says when")
    if "COUNT" in parts and int(parts["COUNT"]) > OCCURRENCES_MAXIMUM:
        raise ValueError(f"COUNT is {parts['COUNT']}; allowed: {_ALLOWED['COUNT']}")
    if frequency in ("DAILY", "WEEKLY") and re.search(r"\d", parts.get("BYDAY", "")):
        raise ValueError(f"BYDAY has a number, which means nothing with FREQ={frequency}")
    if frequency == "WEEKLY" and "BYMONTHDAY" in parts:
        raise ValueError("BYMONTHDAY does not go with FREQ=WEEKLY")
    if "BYSETPOS" in parts and not {"BYDAY", "BYMONTHDAY", "BYMONTH"} & parts.keys():
        raise ValueError("BYSETPOS chooses from what another BY… part has, and there is none")


def _moment(until: str) -> date | datetime:
    try:
        if "T" in until:
            return datetime.strptime(until, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return datetime.strptime(until, "%Y%m%d").date()  # noqa: DTZ007  a date has no zone
    except ValueError:
        raise ValueError(f"UNTIL is {until!r}; allowed: {_ALLOWED['UNTIL']}") from None


def _not_after(end: date, day: date) -> bool:
    return day <= end
