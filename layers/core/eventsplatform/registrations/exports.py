"""An event's registrations as a CSV file, in parts that fit into an answer.

Names are asked of identity while a part is written: an export is rare, and what is kept nowhere need not be kept up
to date, nor taken back from anywhere. Mail addresses are not in it: they were given to the platform, which writes to
attendees on the organiser's behalf.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo

from eventsplatform.clock import Clock, rfc3339
from eventsplatform.deadline import at_most
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.model import AuditRecord, Work
from eventsplatform.pagination import decode_cursor, encode_cursor, invalid_cursor
from eventsplatform.personal_data import DELETED_NAME
from eventsplatform.registrations.model import EventPlaces, Registration
from eventsplatform.spreadsheets import Cell, csv_row

# Read at once: all that is held of the registrations at any time, beside the part that is being written.
CHUNK = 1_000

# Lambda's answers have 6 MB at most, as JSON: a part is what it takes when everything beyond ASCII is escaped.
PART_BYTES = 4_500_000
PART_ROWS = 25_000

# A chunk that could take so long is left to the next part when the invocation ends before.
CHUNK_SECONDS = 5.0

COLUMNS = (
    "id",
    "user_id",
    "name",
    "status",
    "position",
    "registered_at",
    "registered_at_local",
    "offer_expires_at",
    "checked_in_at",
    "checked_in_by",
)


class ExportedRegistration(Registration):
    """With when, and by whom of the team, someone has been let in."""

    checked_in_at: datetime | None
    checked_in_by: int | None


@dataclass(frozen=True)
class Position:
    """Behind which registration to go on, and up to which moment: who came after the export began is not in it."""

    registered_at: datetime
    id: int
    until: datetime


@dataclass(frozen=True)
class ExportPart:
    """Lines of the file, which is all parts one after the other; the first one begins with the columns' names."""

    text: str
    is_first: bool
    next_cursor: str | None


class ExportStore(Protocol):
    def export_chunk(self, event_id: int, after: Position, limit: int) -> list[ExportedRegistration]:
        """The event's registrations behind a position, in the order in which they came."""


class EventTeams(Protocol):
    def require_team(self, event_id: int, caller: Caller) -> EventPlaces:
        """The event, for those who run it. Raises NotFoundError or ForbiddenError."""


class Names(Protocol):
    def names(self, user_ids: Sequence[int]) -> Mapping[int, str]:
        """Of those who have one still. Raises DependencyUnavailableError."""


class RegistrationExports:
    def __init__(self, work: Work[ExportStore], teams: EventTeams, people: Names, clock: Clock) -> None:
        self._work = work
        self._teams = teams
        self._people = people
        self._clock = clock

    def of_event(self, event_id: int, cursor: str | None, caller: Caller) -> ExportPart:
        """A part of the file, for the event's team. Each is in the audit log.

        The file has everyone once who had registered when it was begun, as they are when their part is written.
        Raises NotFoundError, ForbiddenError for anyone else, InvalidInputError for a cursor of another list.
        """
        after = _position(cursor) if cursor else None
        event = self._teams.require_team(event_id, caller)
        part = _Part(ZoneInfo(event.timezone), after or Position(_FIRST, 0, self._clock()), with_names=after is None)
        is_whole = False
        while not (is_whole or part.is_full):
            chunk = self._read(event_id, part.reached)
            names = self._people.names([each.user_id for each in chunk]) if chunk else {}
            written = sum(part.add(each, names.get(each.user_id, DELETED_NAME)) for each in chunk)
            is_whole = written == len(chunk) < CHUNK
        with self._work() as (_, outbox):
            outbox.record(
                AuditRecord("registrations.exported", "event", event_id, caller.user_id, {"registrations": part.rows})
            )
        return ExportPart(part.text, after is None, None if is_whole else _cursor(part.reached))

    def _read(self, event_id: int, after: Position) -> list[ExportedRegistration]:
        with self._work.statement() as store:
            return store.export_chunk(event_id, after, CHUNK)


class _Part:
    """A part while it is being written: it grows up to its bounds, and knows how far the file has come."""

    def __init__(self, zone: tzinfo, reached: Position, *, with_names: bool) -> None:
        self.rows = 0
        self.reached = reached
        self._zone = zone
        self._lines = [csv_row(COLUMNS)] if with_names else []
        self._bytes = 0
        self._is_full = False

    @property
    def text(self) -> str:
        return "".join(self._lines)

    @property
    def is_full(self) -> bool:
        """Also when there is no time for more; a part has at least one chunk, or nothing would ever be done."""
        no_time = self.rows > 0 and at_most(CHUNK_SECONDS) < CHUNK_SECONDS
        return self._is_full or self.rows >= PART_ROWS or no_time

    def add(self, registration: ExportedRegistration, name: str) -> bool:
        """Whether there was room for it, and for all before it."""
        line = csv_row(self._cells(registration, name))
        size = len(json.dumps(line))
        self._is_full = self._is_full or self._bytes + size > PART_BYTES
        if not self._is_full:
            self._lines.append(line)
            self._bytes += size
            self.rows += 1
            self.reached = Position(registration.registered_at, registration.id, self.reached.until)
        return not self._is_full

    def _cells(self, registration: ExportedRegistration, name: str) -> Sequence[Cell]:
        return (
            registration.id,
            registration.user_id,
            name,
            registration.status,
            registration.position,
            rfc3339(registration.registered_at),
            registration.registered_at.astimezone(self._zone).isoformat(timespec="seconds"),
            _told(registration.offer_expires_at),
            _told(registration.checked_in_at),
            registration.checked_in_by,
        )


def _told(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None


# Before every registration.
_FIRST = datetime(1, 1, 2, tzinfo=UTC)


def _cursor(position: Position) -> str:
    return encode_cursor([position.registered_at.isoformat(), position.id, position.until.isoformat()])


def _position(cursor: str) -> Position:
    first, last_id, last = decode_cursor(cursor, length=3)
    try:
        registered_at, until = datetime.fromisoformat(first), datetime.fromisoformat(last)
    except (TypeError, ValueError) as error:
        raise invalid_cursor() from error
    if registered_at.tzinfo is None or until.tzinfo is None or not isinstance(last_id, int):
        raise invalid_cursor()
    return Position(registered_at, last_id, until)
