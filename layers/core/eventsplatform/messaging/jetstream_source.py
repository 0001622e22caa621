"""JetStream as the bridge from NATS reads it: blocking, on the connection's own loop."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from eventsplatform.adapters.jetstream import Delivered, DurableReader
from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.messaging.bridge_from_nats import Position
from eventsplatform.messaging.routes import Shard
from eventsplatform.messaging.streams import ensure_stream

T = TypeVar("T")

OPEN_WITHIN_SECONDS = 10.0
ANSWER_WITHIN_SECONDS = 5.0


class JetStreamSource:
    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    @contextmanager
    def open(self, shard: Shard, position: Position) -> Iterator[JetStreamReader]:
        try:
            reader = self._connection.run(self._open(shard, position), timeout_seconds=OPEN_WITHIN_SECONDS)
        except TimeoutError as error:
            raise DependencyUnavailableError("message bus") from error
        try:
            yield reader
        finally:
            reader.close()

    async def _open(self, shard: Shard, position: Position) -> JetStreamReader:
        client = await self._connection.client()
        # One that is made anew goes on counting, so that no message is taken for one that came before.
        created = await ensure_stream(client.jetstream(), shard.stream, first_sequence=position.sequence + 1)
        if created != position.created:
            position = Position(created, 0)
        durable = await DurableReader.open(
            client, shard.stream.name, f"bridge-{shard.name}", shard.filters, after=position.sequence
        )
        return JetStreamReader(self._connection, durable, position)


class JetStreamReader:
    def __init__(self, connection: NatsConnection, durable: DurableReader, position: Position) -> None:
        self.position = position
        self._connection = connection
        self._durable = durable

    def next(self, most: int, *, within_seconds: float) -> Sequence[Delivered]:
        arriving = self._durable.next(most, within_seconds=within_seconds)
        return self._run(arriving, within_seconds + ANSWER_WITHIN_SECONDS)

    def acknowledge(self, delivered: Delivered) -> None:
        self._run(self._durable.acknowledge(delivered), ANSWER_WITHIN_SECONDS)

    def close(self) -> None:
        self._run(self._durable.close(), ANSWER_WITHIN_SECONDS)

    def _run(self, call: Coroutine[Any, Any, T], within_seconds: float) -> T:
        try:
            return self._connection.run(call, timeout_seconds=within_seconds)
        except TimeoutError as error:
            raise DependencyUnavailableError("message bus") from error
