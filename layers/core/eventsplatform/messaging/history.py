"""The past of an event as the event store has it, for the service that decides who may see it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

# A change tells the whole event, some 30 KB with the longest texts, and Lambda answers with 6 MB at most.
MOST_CHANGES = 101


class HistoryQuestion(BaseModel):
    """`as_of` asks for the state at a moment; otherwise for `limit` changes before a version, the latest first."""

    model_config = ConfigDict(extra="forbid")

    event_id: int
    as_of: datetime | None = None
    before: int | None = None
    limit: int = Field(default=1, ge=1, le=MOST_CHANGES)


class RecordedChange(BaseModel):
    """One row of the outbox: `payload` is the event as it was from this version on."""

    version: int
    type: str
    occurred_at: datetime
    actor_id: int | None
    payload: dict[str, Any]


class RecordedCounts(BaseModel):
    """Places taken (held by an offer, too) and people in line."""

    registered: int
    waitlisted: int


class RecordedHistory(BaseModel):
    """With `as_of` the latest change until then, if there was one, and the counts; `first` is the oldest there is."""

    changes: list[RecordedChange]
    counts: RecordedCounts | None = None
    first: RecordedChange | None = None


class HistoryStore(Protocol):
    def changes_before(self, event_id: int, version: int | None, limit: int) -> list[RecordedChange]:
        """The event's changes before a version, the latest first."""

    def last_until(self, event_id: int, moment: datetime) -> RecordedChange | None:
        """The last change before the first one that came later than the moment."""

    def first_of(self, event_id: int) -> RecordedChange | None: ...

    def counts_at(self, event_id: int, moment: datetime) -> Mapping[str, int]:
        """A recount of the event's registrations as they were at the moment."""


class History:
    def __init__(self, store: HistoryStore) -> None:
        self._store = store

    def answer(self, question: HistoryQuestion) -> RecordedHistory:
        if question.as_of is None:
            changes = self._store.changes_before(question.event_id, question.before, question.limit)
            return RecordedHistory(changes=changes)
        last = self._store.last_until(question.event_id, question.as_of)
        if last is None:
            return RecordedHistory(changes=[], first=self._store.first_of(question.event_id))
        counts = RecordedCounts(**self._store.counts_at(question.event_id, question.as_of))
        return RecordedHistory(changes=[last], counts=counts)
