"""NATS → Kafka: what outside systems publish to JetStream goes to topics, as `routes.yaml` says, in order per shard.

A shard is one durable consumer, read by whoever holds its lease. With the lease goes the sequence up to which all has
been produced; it moves when Kafka has acknowledged everything before it, in the statement that shows that the lease is
still held, and only then JetStream is told. So nothing is lost, and a crash after the acknowledgement and before that
statement repeats what was under way: consumers know the ids, and have an inbox where it matters.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from aws_lambda_powertools.metrics import MetricUnit

from eventsplatform.adapters.jetstream import Delivered
from eventsplatform.adapters.kafka import KafkaMessage
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.garbage import spare_what_is_loaded
from eventsplatform.messaging.crossings import Crossings
from eventsplatform.messaging.inbound_records import InboundRecord, InboundRecords
from eventsplatform.messaging.routes import Shard
from eventsplatform.observability import emit_metric, logger

BATCH_SIZE = 500
# Longer than a batch may take, with each engine as slow as it may be.
LEASE_SECONDS = 30
NOTED_EVERY_SECONDS = 3.0
WAIT_SECONDS = 1.0
PAUSE_SECONDS = (0.2, 0.4, 0.8, 1.6)


@dataclass(frozen=True)
class Position:
    """All up to `sequence` of the stream that was created then is in Kafka."""

    created: datetime | None
    sequence: int


@dataclass(frozen=True)
class Lease:
    fence: int
    position: Position


class LeaseStore(Protocol):
    def acquire(self, shard: str, holder: uuid.UUID, seconds: int) -> Lease | None:
        """None while another holder has the shard."""

    def advance(self, shard: str, fence: int, position: Position, seconds: int) -> bool:
        """Note the position and keep the lease. False, and nothing noted, when it has passed to another holder."""

    def release(self, shard: str, fence: int) -> None: ...


class Reader(Protocol):
    position: Position
    """Where it begins: that of the lease, unless the stream is another one by now."""

    def next(self, most: int, *, within_seconds: float) -> Sequence[Delivered]:
        """What has come, in order. Raises DependencyUnavailableError."""

    def acknowledge(self, delivered: Delivered) -> None:
        """All up to this one is done. Raises DependencyUnavailableError."""


class Source(Protocol):
    def open(self, shard: Shard, position: Position) -> AbstractContextManager[Reader]:
        """Read a shard behind the position. Raises DependencyUnavailableError."""


# Begins to send records in order. What it returns waits for them, and tells of each whether it was acknowledged.
Start = Callable[[Sequence[KafkaMessage]], Callable[[], list[bool]]]


class BridgeFromNats:
    def __init__(
        self,
        shards: Sequence[Shard],
        store: LeaseStore,
        source: Source,
        records: InboundRecords,
        start: Start,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._shards = shards
        self._store = store
        self._source = source
        self._records = records
        self._start = start
        self._pause = pause
        self._holder = uuid.uuid4()

    def run(self, has_time: Callable[[], bool]) -> int:
        """Bridge whichever shard is free until the time is up; the number of messages that have crossed.

        Raises the error that was the last word, when there was one.
        """
        crossed = 0
        failure: DependencyUnavailableError | None = None
        pauses = _pauses()
        while has_time():
            try:
                for batch in self._bridge_free_shard(has_time):
                    crossed, failure, pauses = crossed + batch, None, _pauses()
            except DependencyUnavailableError as error:
                failure = error
                logger.warning("the bridge has to wait", extra={"dependency": error.dependency})
                emit_metric("bridge_failures_total", 1, dependency=error.dependency)
            self._pause(next(pauses))
        if failure is not None:
            raise failure
        return crossed

    def _bridge_free_shard(self, has_time: Callable[[], bool]) -> Iterator[int]:
        """Batch by batch, how many messages have crossed; nothing when other holders have all shards."""
        for shard in self._shards:
            lease = self._store.acquire(shard.name, self._holder, LEASE_SECONDS)
            if lease is None:
                continue
            try:
                with self._source.open(shard, lease.position) as reader:
                    spare_what_is_loaded()
                    yield from _Shift(shard, lease, reader, self._store, self._records).batches(self._start, has_time)
            except _LeaseLostError:
                logger.warning("the lease has passed to another holder", extra={"shard": shard.name})
            finally:
                self._store.release(shard.name, lease.fence)
            return


class _LeaseLostError(Exception):
    """Another holder has the shard: nothing more is noted or acknowledged."""


@dataclass(frozen=True)
class _Batch:
    """What has been read together and is being produced."""

    last: Delivered
    records: Sequence[InboundRecord]
    reports: Callable[[], list[bool]]

    def done(self) -> list[InboundRecord]:
        """Those, from the first on, that are in Kafka, or left out because they came round."""
        acknowledged = iter(self.reports())
        done = []
        for record in self.records:
            if record.kafka is not None and not next(acknowledged):
                break
            done.append(record)
        return done


class _Shift:
    """One holder's time with a shard. While a batch is being produced, the next one is read."""

    def __init__(self, shard: Shard, lease: Lease, reader: Reader, store: LeaseStore, records: InboundRecords) -> None:
        self._shard = shard
        self._fence = lease.fence
        self._reader = reader
        self._store = store
        self._records = records
        self._position = reader.position
        self._taken = reader.position.sequence
        self._noted_at = time.monotonic()
        self._crossings = Crossings()

    def batches(self, start: Start, has_time: Callable[[], bool]) -> Iterator[int]:
        """How many messages have crossed, batch by batch. Raises _LeaseLostError or DependencyUnavailableError."""
        under_way: _Batch | None = None
        while (goes_on := has_time()) or under_way is not None:
            failure: DependencyUnavailableError | None = None
            arrivals: Sequence[Delivered] = ()
            try:
                if goes_on:
                    arrivals = self._reader.next(BATCH_SIZE, within_seconds=0.0 if under_way else WAIT_SECONDS)
            except DependencyUnavailableError as error:
                failure = error  # not before what is under way has been noted
            records = [self._records.of(self._shard, each) for each in arrivals if each.sequence > self._taken]
            if under_way is not None:
                yield self._settle(under_way)
            elif time.monotonic() - self._noted_at > NOTED_EVERY_SECONDS:
                self._note(self._position.sequence, pending=0)
            if failure is not None:
                raise failure
            under_way = None
            if arrivals:
                self._taken = max(self._taken, arrivals[-1].sequence)
                kafka = [record.kafka for record in records if record.kafka is not None]
                under_way = _Batch(arrivals[-1], records, start(kafka))

    def _settle(self, batch: _Batch) -> int:
        """Note how far the batch has come, and tell NATS if it is all there."""
        done = batch.done()
        self._note(done[-1].sequence if done else self._position.sequence, pending=batch.last.pending)
        for record in done:
            if record.loop is not None:
                self._crossings.loop(record.route, record.loop)
            elif record.route:
                self._crossings.crossed(record.route, record.time)
            else:
                emit_metric("dead_letters_total", 1, topic=self._shard.stream.name)
        self._crossings.emit()
        if len(done) < len(batch.records):
            raise DependencyUnavailableError("message broker")
        self._reader.acknowledge(batch.last)
        return len(done)

    def _note(self, sequence: int, *, pending: int) -> None:
        position = replace(self._position, sequence=sequence)
        if not self._store.advance(self._shard.name, self._fence, position, LEASE_SECONDS):
            raise _LeaseLostError
        self._position, self._noted_at = position, time.monotonic()
        emit_metric("bridge_pending_messages", pending, unit=MetricUnit.NoUnit, shard=self._shard.name)


def _pauses() -> Iterator[float]:
    yield from PAUSE_SECONDS
    while True:
        yield PAUSE_SECONDS[-1]
