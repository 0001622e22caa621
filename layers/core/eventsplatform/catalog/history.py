"""Who changed what of an event, and the event as it was: folded from what the event store has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from eventsplatform.catalog.model import EventThen, FieldChange, HistoryEntry, HistoryQuery, KnownEvent, Organizer
from eventsplatform.catalog.service import MANAGERS, event_of
from eventsplatform.clock import rfc3339
from eventsplatform.errors import NotFoundError
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.history import RecordedChange, RecordedHistory
from eventsplatform.messaging.model import Work
from eventsplatform.pagination import Page, decode_cursor, encode_cursor, invalid_cursor

# What numbers and dates a version is no change of the event.
_OF_THE_VERSION = frozenset({"id", "version", "created_at", "updated_at"})


class HistoryStore(Protocol):
    def find_event(self, event_id: int, *, for_update: bool = False) -> KnownEvent | None: ...

    def find_users(self, user_ids: Sequence[int]) -> dict[int, Organizer]:
        """Those of the users whose accounts have not been erased."""


class EventStore(Protocol):
    """Messaging, which alone reads the outbox."""

    def changes(self, event_id: int, before: int | None, limit: int) -> list[RecordedChange]:
        """The event's changes before a version, the latest first."""

    def at(self, event_id: int, moment: datetime) -> RecordedHistory: ...


class EventHistory:
    def __init__(self, work: Work[HistoryStore], recorded: EventStore) -> None:
        self._work = work
        self._recorded = recorded

    def page(self, event_id: int, query: HistoryQuery, caller: Caller) -> Page[HistoryEntry]:
        """The changes of an event, the latest first, for its owner and managers.

        Raises NotFoundError, ForbiddenError, InvalidInputError for a cursor of another list.
        """
        before = _version(query.cursor)
        self._require_manager(event_id, caller)
        # The one before the page says what its oldest change changed, and that there is a next page.
        found = self._recorded.changes(event_id, before, query.limit + 1)
        page = found[: query.limit]
        with self._work.statement() as store:
            actors = store.find_users(sorted({each.actor_id for each in page if each.actor_id is not None}))
        payloads = {each.version: each.payload for each in found}
        return Page(
            items=[
                HistoryEntry(
                    version=each.version,
                    type=each.type,
                    at=each.occurred_at,
                    actor=actors.get(each.actor_id) if each.actor_id is not None else None,
                    changes=_changes(payloads.get(each.version - 1), each),
                )
                for each in page
            ],
            next_cursor=encode_cursor([page[-1].version]) if len(found) > query.limit else None,
        )

    def at(self, event_id: int, moment: datetime, caller: Caller) -> EventThen:
        """The event as it was. Raises NotFoundError for a moment before it existed, ForbiddenError."""
        self._require_manager(event_id, caller)
        history = self._recorded.at(event_id, moment)
        if not history.changes or history.counts is None:
            raise NotFoundError(_nothing_then(event_id, moment, history.first))
        payload, counts = history.changes[0].payload, history.counts
        return EventThen.model_validate(
            {
                **payload,
                "registered": counts.registered,
                "waitlisted": counts.waitlisted,
                "available": max(0, payload["capacity"] - counts.registered),
                "as_of": moment,
            }
        )

    def _require_manager(self, event_id: int, caller: Caller) -> None:
        with self._work.statement() as store:
            event_of(store.find_event(event_id), event_id, caller, MANAGERS)


def _changes(before: Mapping[str, Any] | None, change: RecordedChange) -> list[FieldChange] | None:
    """What is another value than before; None when the store no longer has what was before."""
    if before is None and change.version > 1:
        return None
    known = before or {}
    return [
        FieldChange(field=name, before=known.get(name), after=value)
        for name, value in change.payload.items()
        if name not in _OF_THE_VERSION and known.get(name) != value
    ]


def _nothing_then(event_id: int, moment: datetime, first: RecordedChange | None) -> str:
    if first is None or first.version == 1:
        return f"There was no event {event_id} at {rfc3339(moment)}."
    return f"What event {event_id} was before {rfc3339(first.occurred_at)} is no longer kept."


def _version(cursor: str | None) -> int | None:
    """The version of the last change that was seen. Raises InvalidInputError."""
    if cursor is None:
        return None
    (version,) = decode_cursor(cursor, length=1)
    if not isinstance(version, int) or not 0 < version < 2**31:
        raise invalid_cursor()
    return version
