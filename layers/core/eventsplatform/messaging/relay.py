"""The outbox relay: committed changes go to Kafka, in order per key, at least once.

One relay per shard holds a lease with a fencing number. It reads pending rows by flag, sends them without a transaction
open, and marks the acknowledged prefix of each key, if the lease is still its own.

A relay that has found something stays awake for a while and looks again every few milliseconds, so that writers need
not call one for each commit: `messaging.outbox.RelayPoke` relies on that. While it is awake it takes every shard that
nobody holds, and before it ends it looks once more into those it has held.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from eventsplatform.clock import rfc3339
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import topic_of

# Rows of all shards together, of which each has a share that is worth the round trips.
BATCH_SIZE = 500
LEAST_SHARE = 50
LEASE_SECONDS = 20
# What sending a batch and marking it may take at most; a lease that would end before is renewed first.
RELAY_WITHIN_SECONDS = 12
# Stop this long before the function's own time-out: one batch may still take a delivery time-out.
STOP_BEFORE_MS = 15_000
AWAKE_SECONDS = 2.0
LOOK_EVERY_SECONDS = 0.02
TAKE_OVER_EVERY_SECONDS = 1.0

# By shard, the fencing number of the lease on it.
Leases = dict[int, int]


@dataclass(frozen=True)
class PendingChange:
    """A row of the outbox that no relay has seen acknowledged yet."""

    id: int
    shard: int
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
    """Each method is a transaction of its own."""

    def acquire_leases(self, shards: Collection[int], holder: uuid.UUID, seconds: int) -> Leases:
        """Leases on those of the shards that no other relay holds."""

    def renew_leases(self, leases: Leases, seconds: int) -> Leases:
        """Those of the leases that have not passed to another relay, prolonged."""

    def release_leases(self, leases: Leases) -> None: ...

    def pending(self, shards: Collection[int], limit: int) -> list[PendingChange]:
        """The first pending changes of each shard, in the order of their rows; at most so many of each."""

    def mark_published(self, leases: Leases, changes: Sequence[PendingChange], seconds: int) -> Leases:
        """Renews the leases, and marks the changes of those shards whose lease has not passed to another relay."""


# Sends (topic, message) pairs and tells of each whether it was acknowledged.
Send = Callable[[Sequence[tuple[str, Message]]], list[bool]]


class Relay:
    """One run at a time. `clock` and `wait` are in seconds."""

    def __init__(
        self,
        store: RelayStore,
        send: Send,
        *,
        awake_seconds: float = AWAKE_SECONDS,
        lease_seconds: int = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._send = send
        self._awake_seconds = awake_seconds
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._wait = wait

    def run(self, shards: Iterable[int], remaining_ms: Callable[[], int]) -> int:
        """Relay what is pending, and what comes to be while it is awake, in those shards that no other relay holds.

        Returns the number of messages acknowledged. Raises RelayError when Kafka has not taken all.
        """
        every = frozenset(shards)
        total = 0
        wanted: Collection[int] = every
        while wanted and remaining_ms() >= STOP_BEFORE_MS:
            shift = _Shift(self._store, self._lease_seconds, self._clock)
            shift.take(wanted)
            try:
                total += self._work(shift, every, remaining_ms)
            finally:
                shift.end()
            # What was committed after the last look, by someone who saw the leases taken.
            wanted = {change.shard for change in self._store.pending(shift.held, 1)}
        return total

    def _work(self, shift: _Shift, every: Collection[int], remaining_ms: Callable[[], int]) -> int:
        total = 0
        awake_until = self._clock()
        while shift.leases and remaining_ms() >= STOP_BEFORE_MS:
            share = max(LEAST_SHARE, BATCH_SIZE // len(shift.leases))
            changes = self._store.pending(shift.leases, share)
            if changes:
                total += self._relay(shift, changes)
                awake_until = self._clock() + self._awake_seconds
            backlogs = [shard for shard, count in Counter(change.shard for change in changes).items() if count == share]
            if backlogs:
                # More waits there than was read. The other shards are left to whoever comes to help.
                shift.leave_all_but(backlogs[0])
            elif self._clock() < awake_until:
                self._wait(LOOK_EVERY_SECONDS)
                shift.take_over(every)
            else:
                break
        return total

    def _relay(self, shift: _Shift, changes: Sequence[PendingChange]) -> int:
        shift.make_last(RELAY_WITHIN_SECONDS)
        changes = [change for change in changes if change.shard in shift.leases]
        if not changes:
            return 0
        acknowledged = self._send([(topic_of(change.type), change.to_message()) for change in changes])
        sent = _acknowledged_in_order(changes, acknowledged)
        shift.mark(sent)
        if len(sent) < len(changes):
            raise RelayError(f"Kafka acknowledged {len(sent)} of {len(changes)} messages")
        return sum(change.shard in shift.leases for change in sent)


class _Shift:
    """The leases of a relay at work, which nobody else has before `_ends_at`."""

    def __init__(self, store: RelayStore, seconds: int, clock: Callable[[], float]) -> None:
        self._store = store
        self._seconds = seconds
        self._clock = clock
        self._holder = uuid.uuid4()
        self._ends_at = math.inf
        self._take_over_at = -math.inf
        self.leases: Leases = {}
        self.held: set[int] = set()
        """The shards of all leases that there have been."""

    def take(self, shards: Collection[int]) -> None:
        began = self._clock()
        taken = self._store.acquire_leases(shards, self._holder, self._seconds)
        if taken:
            self._ends_at = min(self._ends_at, began + self._seconds)
            self.leases |= taken
            self.held |= taken.keys()
        self._take_over_at = began + TAKE_OVER_EVERY_SECONDS

    def take_over(self, shards: Collection[int]) -> None:
        """Take those that nobody holds (any more), now and then."""
        others = set(shards) - self.leases.keys()
        if others and self._clock() >= self._take_over_at:
            self.take(others)

    def leave_all_but(self, shard: int) -> None:
        others = {each: fence for each, fence in self.leases.items() if each != shard}
        if others:
            self._store.release_leases(others)
            self.leases = {each: fence for each, fence in self.leases.items() if each == shard}
        self._take_over_at = -math.inf

    def make_last(self, seconds: float) -> None:
        """Renew the leases when they might end within so many seconds, and drop those that have passed to another."""
        began = self._clock()
        if began + seconds > self._ends_at:
            self._keep(self._store.renew_leases(self.leases, self._seconds), began)

    def mark(self, changes: Sequence[PendingChange]) -> None:
        began = self._clock()
        self._keep(self._store.mark_published(self.leases, changes, self._seconds), began)

    def end(self) -> None:
        self._store.release_leases(self.leases)

    def _keep(self, leases: Leases, since: float) -> None:
        self.leases = leases
        self._ends_at = since + self._seconds


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
