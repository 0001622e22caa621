"""Field types that requests share: text that every engine can store, and moments that stay in range.

PostgreSQL stores no NUL in text, UTF-8 has no surrogates (JSON's escapes can write one alone), and Python has
no moment after the year 9999 in UTC.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

# RFC 3339 §5.6, with the seconds and the letter case it allows to vary.
_RFC_3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})")
_FULL_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_LINE_CONTROLS = frozenset("\t\n\r")
# Characters that turn the order in which the rest of a line is shown, as in a forged name (Unicode TR 36, §2.4).
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")


def storable(text: Any) -> Any:
    """Raises ValueError, naming the character, for text that some engine cannot keep."""
    if not isinstance(text, str):
        return text
    for character in text:
        if unicodedata.category(character) in {"Cc", "Cs"} and character not in _LINE_CONTROLS:
            raise ValueError(f"must not have the character U+{ord(character):04X}")
    return text


def _on_one_line(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    if _TURNING.search(text):
        raise ValueError("must not have characters that turn the direction of text")
    return " ".join(storable(text).split())


def _rfc_3339(value: Any) -> Any:
    """Pydantic alone would take numbers for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        return value
    raise ValueError("must be an RFC 3339 time with an offset, such as '2030-05-01T18:00:00+02:00'")


def _full_date(value: Any) -> Any:
    """Pydantic alone would take numbers, and midnights."""
    if (isinstance(value, date) and not isinstance(value, datetime)) or (
        isinstance(value, str) and _FULL_DATE.fullmatch(value)
    ):
        return value
    raise ValueError("must be a date such as '2030-05-01'")


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of range") from error


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _iana_zone(name: str) -> str:
    if name not in _time_zones():
        raise ValueError("is not an IANA time zone name such as 'Europe/Berlin'")
    return name


# To stand last in an `Annotated[str, Field(max_length=…), ONE_LINE]`: it runs first, so that the lengths
# count what is stored. Runs of white space become one space, with none at the ends.
ONE_LINE = BeforeValidator(_on_one_line)

# The same for text of many lines: tabs and line breaks are the only control characters.
PARAGRAPHS = BeforeValidator(storable)

# A moment with an offset, kept in UTC.
Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_in_utc)]

# A date without a time, of RFC 3339's form.
Day = Annotated[date, BeforeValidator(_full_date)]

# A name of the IANA time zone database.
TimeZone = Annotated[str, Field(max_length=64), AfterValidator(_iana_zone)]

# A whole number, not a string of digits or `true`.
Count = Annotated[int, Field(strict=True)]
