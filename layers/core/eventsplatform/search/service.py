"""Searching events, and keeping the index equal to the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from eventsplatform.clock import Clock
from eventsplatform.search.model import EventQuery, IndexedEvent, SearchResults


class EventIndex(Protocol):
    def search(self, query: EventQuery, now: datetime) -> SearchResults: ...

    def put(self, events: Sequence[IndexedEvent]) -> None:
        """Index each event unless a later version is there. Raises when any could not be stored."""


class EventDirectory(Protocol):
    """The catalog, as search asks it for all there is."""

    def page(self, after_id: int) -> list[dict[str, Any]]:
        """The next events by id that are no drafts; none after the last."""


@dataclass(frozen=True)
class ReindexedPage:
    """`last_id` is None when there was nothing left to index."""

    indexed: int
    last_id: int | None


class EventSearch:
    def __init__(self, index: EventIndex, events: EventDirectory, clock: Clock) -> None:
        self._index = index
        self._events = events
        self._clock = clock

    def find(self, query: EventQuery) -> SearchResults:
        return self._index.search(query, self._clock())

    def reindex_page(self, after_id: int) -> ReindexedPage:
        """Index the events that follow `after_id` in the catalog."""
        events = self._events.page(after_id)
        self.learn_events([IndexedEvent.of_event(event) for event in events])
        return ReindexedPage(len(events), events[-1]["id"] if events else None)

    def learn_events(self, events: Sequence[IndexedEvent]) -> None:
        """Project events as the catalog tells them. Drafts stay out: the index is public."""
        public = [event for event in events if event.is_public]
        if public:
            self._index.put(public)
