"""The outer shape of an iCalendar file: characters, lines and nesting, each fault with its line.

The file is cut into its components before any of them is parsed, so that one broken event or time zone costs nothing
but itself, and so that every complaint can name a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from icalendar.parser import Contentline

_BOUNDARY = re.compile(r"(BEGIN|END)[ \t]*:[ \t]*([\w.-]+)[ \t]*", re.IGNORECASE)
_SHOWN_CHARACTERS = 60


class CalendarFileError(ValueError):
    """The file as a whole is no iCalendar file; the message says what is wrong and in which line."""


@dataclass(frozen=True)
class Block:
    """A component directly below a VCALENDAR: its name, its source text and the line where that begins, from 1."""

    name: str
    line: int
    text: str


@dataclass
class CalendarSource:
    """A VCALENDAR cut up: its own properties (the first of each name counts) and its components in order."""

    properties: dict[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


def cut_up(data: bytes, encoding: str = "utf-8") -> list[CalendarSource]:
    """The calendars of a file. RFC 5545 files are UTF-8; another `encoding` has to be named.

    Raises CalendarFileError for anything that is not a sequence of complete VCALENDAR components.
    """
    text = _decode(data, encoding).replace("\r\n", "\n").replace("\r", "\n")
    calendars: list[CalendarSource] = []
    open_components: list[tuple[str, int]] = []
    block: list[str] = []
    for number, line in _logical_lines(text):
        boundary = _BOUNDARY.fullmatch(line)
        kind, name = (boundary[1].upper(), boundary[2].upper()) if boundary else ("", "")
        if not open_components and (kind, name) != ("BEGIN", "VCALENDAR"):
            if calendars and not kind:
                continue  # some programs leave a remark behind the end
            raise CalendarFileError(f"line {number}: expected BEGIN:VCALENDAR, found {_shown(line)}")
        if kind == "BEGIN":
            open_components.append((name, number))
            if len(open_components) == 1:
                calendars.append(CalendarSource())
        if len(open_components) >= 2:
            block.append(line)
        elif not kind:
            _add_property(calendars[-1].properties, line, number)
        if kind == "END":
            opened, opened_at = open_components.pop()
            if opened != name:
                raise CalendarFileError(f"line {number}: END:{name} does not close BEGIN:{opened} of line {opened_at}")
            if len(open_components) == 1:
                calendars[-1].blocks.append(Block(name, opened_at, "\r\n".join([*block, ""])))
                block = []
    if open_components:
        name, number = open_components[-1]
        raise CalendarFileError(f"line {number}: BEGIN:{name} is never closed; the file seems to be cut off")
    if not calendars:
        raise CalendarFileError("the file is empty")
    return calendars


def _decode(data: bytes, encoding: str) -> str:
    # Whatever was asked for, a byte order mark tells UTF-8 for certain.
    if data.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CalendarFileError(
            f"line {line}: the byte 0x{data[error.start]:02X} is not {encoding.upper()}; name the file's encoding, "
            "for example --encoding windows-1252"
        ) from error
    except LookupError as error:
        raise CalendarFileError(f"{encoding!r} is not the name of an encoding") from error


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; those folded over several lines (RFC 5545 §3.1) in one piece, empty ones left out."""
    start, pieces = 0, list[str]()
    for number, line in enumerate(text.split("\n"), start=1):
        if line[:1] in (" ", "\t") and pieces:
            pieces.append(line[1:])
        elif line.strip():
            if pieces:
                yield start, "".join(pieces)
            start, pieces = number, [line]
    if pieces:
        yield start, "".join(pieces)


def _add_property(properties: dict[str, str], line: str, number: int) -> None:
    try:
        name, _, value = Contentline(line).parts()
    except ValueError as error:
        raise CalendarFileError(f"line {number}: {_shown(line)} is not a property") from error
    properties.setdefault(name.upper(), value)


def _shown(line: str) -> str:
    return repr(line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…")
