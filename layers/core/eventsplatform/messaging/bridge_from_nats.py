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

from eventsplatform.adapters.kafka import MESSAGE_BYTES, KafkaMessage
from eventsplatform.clock import Clock, utc_now
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.messaging.crossings import Crossings
from eventsplatform.messaging.dead_letters import dead_letter, dead_letter_topic
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.inbound import Arrival, carried, read
from eventsplatform.messaging.routes import FromNats, Routes, Shard, values_of
from eventsplatform.observability import emit_metric, logger

BATCH_SIZE = 500
# Of value and headers, whose characters may take four bytes each in the key.
LARGEST = MESSAGE_BYTES - 16 * 1024
# Longer than a batch may take, with each engine as slow as it may be.
LEASE_SECONDS = 30
RENEW_SECONDS = 3.0
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


@dataclass(frozen=True)
class Delivery:
    """An arrival as its consumer has delivered it: `pending` more are waiting in the stream."""

    arrival: Arrival
    attempts: int
    pending: int
    receipt: object


@dataclass(frozen=True)
class _Crossing:
    """What becomes of an arrival: `record` is what to produce, None for a message that came round.

    `message` is None when the record is a dead letter.
    """

    stream: str
    route: str
    message: Message | None
    record: KafkaMessage | None


class Reader(Protocol):
    position: Position
    """Where it begins: that of the lease, unless the stream is another one by now."""

    def next(self, most: int, *, within_seconds: float) -> Sequence[Delivery]:
        """What has come, in order. Raises DependencyUnavailableError."""

    def acknowledge(self, delivery: Delivery) -> None:
        """All up to this one is done. Raises DependencyUnavailableError."""


class Source(Protocol):
    def open(self, shard: Shard, position: Position) -> AbstractContextManager[Reader]:
        """Read a shard behind the position. Raises DependencyUnavailableError."""


# Sends records in order and tells of each whether it was acknowledged.
Send = Callable[[Sequence[KafkaMessage]], list[bool]]


class BridgeFromNats:
    def __init__(
        self,
        routes: Routes,
        store: LeaseStore,
        source: Source,
        send: Send,
        consumer_group: str,
        *,
        clock: Clock = utc_now,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._routes = routes
        self._store = store
        self._source = source
        self._send = send
        self._dead_letters = dead_letter_topic(consumer_group)
        self._clock = clock
        self._pause = pause
        self._holder = uuid.uuid4()
        self._crossings = Crossings()

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
        for shard in self._routes.shards:
            lease = self._store.acquire(shard.name, self._holder, LEASE_SECONDS)
            if lease is None:
                continue
            try:
                yield from self._bridge(shard, lease, has_time)
            finally:
                self._store.release(shard.name, lease.fence)
            return

    def _bridge(self, shard: Shard, lease: Lease, has_time: Callable[[], bool]) -> Iterator[int]:
        """Until the time is up or the lease is another's. Raises DependencyUnavailableError."""
        with self._source.open(shard, lease.position) as reader:
            position, renewed_at = reader.position, time.monotonic()
            while has_time():
                deliveries = reader.next(BATCH_SIZE, within_seconds=WAIT_SECONDS)
                fresh = [each for each in deliveries if each.arrival.sequence > position.sequence]
                if not deliveries and time.monotonic() - renewed_at < RENEW_SECONDS:
                    continue
                done = self._produce(shard, fresh)
                if done:
                    position = replace(position, sequence=fresh[done - 1].arrival.sequence)
                if not self._store.advance(shard.name, lease.fence, position, LEASE_SECONDS):
                    return
                renewed_at = time.monotonic()
                self._crossings.emit()
                pending = deliveries[-1].pending if deliveries else 0
                emit_metric("bridge_pending_messages", pending, unit=MetricUnit.NoUnit, shard=shard.name)
                if done < len(fresh):
                    raise DependencyUnavailableError("message broker")
                if deliveries:
                    reader.acknowledge(deliveries[-1])
                yield done

    def _produce(self, shard: Shard, deliveries: Sequence[Delivery]) -> int:
        """How many, from the first on, are in Kafka, put aside, or left out because they came round."""
        crossings = [self._crossing(shard, delivery) for delivery in deliveries]
        records = [each.record for each in crossings if each.record is not None]
        acknowledged = iter(self._send(records) if records else [])
        for done, crossing in enumerate(crossings):
            if crossing.record is not None and not next(acknowledged):
                return done
            self._count(crossing)
        return len(crossings)

    def _count(self, crossing: _Crossing) -> None:
        if crossing.message is None:
            emit_metric("dead_letters_total", 1, topic=crossing.stream)
        elif crossing.record is None:
            self._crossings.loop(crossing.route, crossing.message)
        else:
            self._crossings.crossed(crossing.route, crossing.message)

    def _crossing(self, shard: Shard, delivery: Delivery) -> _Crossing:
        arrival = delivery.arrival
        try:
            route, captures = shard.route(arrival.subject)
            message = read(arrival)
            if self._routes.is_loop(message):
                return _Crossing(arrival.stream, route.name, message, None)
            crossed = self._crossed(route, captures, arrival, message)
            return _Crossing(arrival.stream, route.name, crossed, _record(route, captures, arrival, crossed))
        except PoisonMessageError as error:
            letter = dead_letter(
                self._dead_letters,
                arrival.origin,
                error,
                key=arrival.subject,
                value=arrival.data,
                headers=arrival.headers.items(),
                attempts=delivery.attempts,
                sent_at=int(arrival.stored_at * 1000),
                put_aside_at=self._clock(),
            )
            return _Crossing(arrival.stream, "", None, letter)

    def _crossed(self, route: FromNats, captures: dict[str, str], arrival: Arrival, message: Message) -> Message:
        """Its type is of the subject, which NATS guards, and not what the sender says. Raises PoisonMessageError."""
        lookup = values_of(message, captures, arrival.headers)
        try:
            type_, key = route.type.subject(lookup), route.key.fill(lookup)
        except ValueError as error:
            raise PoisonMessageError(f"{route.name}: {error}") from error
        if not key:
            raise PoisonMessageError(f"{route.name}: the key would be empty")
        told = {} if message.type in (type_, arrival.subject) else {"sendertype": message.type}
        return replace(
            message,
            type=type_,
            subject=message.subject or key,
            partitionkey=key,
            extensions={**message.extensions, **told},
            **self._routes.mark(message),
        )


def _record(route: FromNats, captures: dict[str, str], arrival: Arrival, crossed: Message) -> KafkaMessage:
    """Raises PoisonMessageError for a message that Kafka would not take."""
    lookup = values_of(crossed, captures, arrival.headers)
    try:
        value = crossed.to_json()
    except TypeError as error:
        raise PoisonMessageError(f"nested too deep to be written: {error}") from error
    headers = {
        **carried(arrival.headers),
        **{name: template.fill(lookup) for name, template in route.headers.items()},
        **crossed.to_headers(),
    }
    size = len(value) + sum(len(name) + len(text) for name, text in headers.items())
    if size > LARGEST:
        raise PoisonMessageError(f"{size} bytes; allowed: {LARGEST}")
    return KafkaMessage(route.topic, key=crossed.partitionkey, value=value, headers=headers)


def _pauses() -> Iterator[float]:
    yield from PAUSE_SECONDS
    while True:
        yield PAUSE_SECONDS[-1]
