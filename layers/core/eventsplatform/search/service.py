"""Searching events, and keeping the index equal to the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from eventsplatform.clock import Clock
from eventsplatform.search.model import EventQuery, IndexedEvent, SearchResults


class EventIndex(Protocol):
    def search(self, query: EventQuery, now: Any) -> SearchResults: ...

    def put(self, events: Sequence[IndexedEvent]) -> None:
        """Index each event unless a later version is there. Raises when any could not be stored."""


class EventSearch:
    def __init__(self, index: EventIndex, clock: Clock) -> None:
        self._index = index
        self._clock = clock

    def find(self, query: EventQuery) -> SearchResults:
        return self._index.search(query, self._clock())

    def learn_events(self, events: Sequence[dict[str, Any]]) -> None:
        """Project events as the catalog tells them. Drafts stay out: the index is public."""
        indexed = [IndexedEvent(version=event["version"], document=event) for event in events]
        public = [event for event in indexed if event.is_public]
        if public:
            self._index.put(public)
