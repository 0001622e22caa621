"""Changes of aggregates, and where they go."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from eventsplatform.messaging.envelope import Message

TOPICS = {
    "events": "evp.events.v1",
    "registrations": "evp.registrations.v1",
    "users": "evp.users.v1",
    "curation": "evp.curation.v1",
    "analytics": "evp.analytics.v1",
    "recommendations": "evp.recommendations.v1",
}
# What came in over NATS: the bridge writes it, and no outbox.
INBOUND_TOPIC = "evp.inbound.v1"

Store = TypeVar("Store", covariant=True)
Result = TypeVar("Result")


# How many messages, from the first on, are done; and what stopped the rest, if anything did.
Outcome = tuple[int, Exception | None]


@dataclass(frozen=True)
class Batch:
    """Messages of one partition of a topic, in its order."""

    topic: str
    messages: Sequence[Message]


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


@dataclass(frozen=True)
class AuditRecord:
    """A privileged act, such as `user.suspended`: who (None for the platform itself) did what to which subject."""

    action: str
    subject_type: str
    subject_id: int
    actor_id: int | None
    details: Mapping[str, Any] = field(default_factory=dict)


class Appendable(Protocol):
    """The outbox as a use case sees it."""

    def append(self, change: Change) -> None: ...

    def wake_relay(self) -> None:
        """Wake the relay after the commit as `append` does: for work that must not show whether it told anyone."""

    def record(self, audit: AuditRecord) -> None:
        """Add to the audit log, which no service can change afterwards."""


class Recording(Protocol):
    """What makes one statement of a store a request's whole effect: it is told of, and recorded, by the same one."""

    def execute(self, statement: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """The one row of `answer`, of a statement that is a WITH clause and has two queries of these names:

        `told`, a row if the statement has an effect: aggregate_type, aggregate_id, version, type, partition_key,
        payload and actor_id of the change, and `result`, the request's result as JSON;
        `answer`, a row in any case.
        """


class Work(Protocol[Store]):
    """The ways in which a use case reaches its store."""

    def run(self, result_type: type[Result] | None, change: Callable[[Store, Appendable], Result]) -> Result:
        """The effect of a request, in one transaction: `change` is given the store and the outbox.

        A request that its sender named with an Idempotency-Key has its effect once. A repeat is given the first
        one's result, which is kept as JSON of `result_type`, or refused with the same error.
        """

    def once(self, message: Message, change: Callable[[Store, Appendable], None]) -> bool:
        """The effect of a message, in one transaction with its row in the inbox; False, and none, when it had it.

        For consumers whose effect would differ the second time. A replay is another message.
        """

    def run_at_once(self, result_type: type[Result], key: str, change: Callable[[Store, Recording], Result]) -> Result:
        """`run`, in a single round trip: `change` has the store execute one statement through the recording.

        `key` is the partition key of the change that is told. What `change` raises says that there was no effect.
        """

    def __call__(self) -> AbstractContextManager[tuple[Store, Appendable]]:
        """A transaction that is no request's effect: the store and the outbox, committed together."""

    def statement(self) -> AbstractContextManager[Store]:
        """The store for one statement, which is its own transaction and takes one round trip."""


def topic_of(message_type: str) -> str:
    """`events.created` → `evp.events.v1`. Raises KeyError for a domain without a topic."""
    return TOPICS[message_type.partition(".")[0]]


def shard_of(key: str, shards: int) -> int:
    """A key's relay shard: stable across processes and releases, so one key is always one relay's."""
    return zlib.crc32(key.encode()) % shards
