"""Changes of aggregates, and where they go."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

TOPICS = {
    "events": "evp.events.v1",
    "registrations": "evp.registrations.v1",
    "users": "evp.users.v1",
    "curation": "evp.curation.v1",
    "analytics": "evp.analytics.v1",
    "recommendations": "evp.recommendations.v1",
}

Store = TypeVar("Store", covariant=True)


@dataclass(frozen=True)
class Change:
    """One change of one aggregate, to be told to everyone: `key` orders it among the messages of its topic."""

    aggregate_type: str
    aggregate_id: int
    version: int
    type: str
    key: str
    data: Mapping[str, Any]
    actor_id: int | None = None


class Appendable(Protocol):
    """The outbox as a use case sees it."""

    def append(self, change: Change) -> None: ...


class Work(Protocol[Store]):
    """The ways in which a use case reaches its store."""

    def __call__(self) -> AbstractContextManager[tuple[Store, Appendable]]:
        """A transaction: the store and the outbox, committed together."""

    def statement(self) -> AbstractContextManager[Store]:
        """The store for one statement, which is its own transaction and takes one round trip."""


def topic_of(message_type: str) -> str:
    """`events.created` → `evp.events.v1`. Raises KeyError for a domain without a topic."""
    return TOPICS[message_type.partition(".")[0]]


def shard_of(key: str, shards: int) -> int:
    """A key's relay shard: stable across processes and releases, so one key is always one relay's."""
    return zlib.crc32(key.encode()) % shards
