"""The outbox relay: committed changes go to Kafka, in order per key, at least once.

One relay per shard holds a lease with a fencing number. It reads pending rows by flag, sends them
without a transaction open, and marks the acknowledged prefix, if the lease is still its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from eventsplatform.clock import rfc3339
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import topic_of

BATCH_SIZE = 500
LEASE_SECONDS = 30
# Stop this long before the function's own time-out: one batch may still take a delivery time-out.
STOP_BEFORE_MS = 15_000


@dataclass(frozen=True)
class PendingChange:
    """A row of the outbox that no relay has seen acknowledged yet."""

    id: int
    aggregate_type: str
    aggregate_id: int
    version: int
    type: str
    partition_key: str
    payload: dict[str, Any]
    traceparent: str
    occurred_at: datetime

    def to_message(self) -> Message:
        """The id is the change's own, so that whoever sends it twice sends the same message."""
        return Message(
            id=f"{self.aggregate_type}-{self.aggregate_id}-{self.version}",
            source=f"/events-platform/{self.type.partition('.')[0]}",
            type=self.type,
            subject=str(self.aggregate_id),
            time=rfc3339(self.occurred_at),
            partitionkey=self.partition_key,
            data=self.payload,
            sequence=self.version,
            traceparent=self.traceparent,
        )


class RelayStore(Protocol):
    def acquire_lease(self, shard: int, holder: uuid.UUID, seconds: int) -> int | None:
        """The lease's fencing number, or None while another relay holds it."""

    def renew_lease(self, shard: int, fence: int, seconds: int) -> bool: ...

    def release_lease(self, shard: int, fence: int) -> None: ...

    def pending(self, shard: int, limit: int) -> list[PendingChange]: ...

    def mark_published(self, shard: int, fence: int, ids: Sequence[int]) -> bool:
        """False, and nothing marked, when the lease has passed to another relay."""


# Sends (topic, message) pairs and tells of each whether it was acknowledged.
Send = Callable[[Sequence[tuple[str, Message]]], list[bool]]


class Relay:
    def __init__(self, store: RelayStore, send: Send) -> None:
        self._store = store
        self._send = send
        self._holder = uuid.uuid4()

    def drain_all(self, shards: Iterable[int], remaining_ms: Callable[[], int]) -> int:
        """Drain each shard; one that fails does not keep the others waiting. Raises their errors as a group."""
        total = 0
        failures: list[Exception] = []
        for shard in shards:
            try:
                total += self.drain(shard, remaining_ms)
            except Exception as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup(f"{len(failures)} shards could not be relayed to the end", failures)
        return total

    def drain(self, shard: int, remaining_ms: Callable[[], int]) -> int:
        """Relay everything pending in a shard; the number of messages acknowledged.

        When another relay holds the lease there is nothing to do: before it stops, the holder looks once
        more after giving up the lease, so it sees every row committed before this call.
        """
        total = 0
        while (fence := self._store.acquire_lease(shard, self._holder, LEASE_SECONDS)) is not None:
            try:
                total += self._drain_with_lease(shard, fence, remaining_ms)
            finally:
                self._store.release_lease(shard, fence)
            if remaining_ms() < STOP_BEFORE_MS or not self._store.pending(shard, 1):
                break
        return total

    def _drain_with_lease(self, shard: int, fence: int, remaining_ms: Callable[[], int]) -> int:
        total = 0
        while remaining_ms() >= STOP_BEFORE_MS and (changes := self._store.pending(shard, BATCH_SIZE)):
            acknowledged = self._send([(topic_of(change.type), change.to_message()) for change in changes])
            sent = _acknowledged_in_order(changes, acknowledged)
            if not self._store.mark_published(shard, fence, [change.id for change in sent]):
                break
            total += len(sent)
            if len(sent) < len(changes):
                raise RelayError(f"Kafka acknowledged {len(sent)} of {len(changes)} messages of shard {shard}")
            if len(changes) < BATCH_SIZE:
                break  # nothing was left, and what came meanwhile is found after giving up the lease
            if not self._store.renew_lease(shard, fence, LEASE_SECONDS):
                break
        return total


class RelayError(RuntimeError):
    """Kafka took only a part; the rest stays pending for the next run."""


def _acknowledged_in_order(changes: Sequence[PendingChange], acknowledged: Sequence[bool]) -> list[PendingChange]:
    """The acknowledged changes before which, within the same key, none is missing."""
    broken: set[str] = set()
    sent: list[PendingChange] = []
    for change, ok in zip(changes, acknowledged, strict=True):
        if not ok:
            broken.add(change.partition_key)
        elif change.partition_key not in broken:
            sent.append(change)
    return sent
