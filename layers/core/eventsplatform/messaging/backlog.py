"""What waits in the outbox, told on the minute: how many changes there are in each shard, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Backlog:
    """Of one shard; `age_seconds` is that of the oldest change."""

    depth: int = 0
    age_seconds: float = 0.0


class BacklogStore(Protocol):
    def backlogs(self) -> Mapping[int, Backlog]:
        """By shard, of those in which anything is pending."""


class BacklogReport:
    """Tells of every shard, for one of which nothing is told might as well have nobody to tell of it."""

    def __init__(self, store: BacklogStore, tell: Callable[[int, Backlog], None]) -> None:
        self._store = store
        self._tell = tell

    def make(self, shards: Iterable[int]) -> None:
        found = self._store.backlogs()
        for shard in sorted({*shards, *found}):
            self._tell(shard, found.get(shard, Backlog()))
