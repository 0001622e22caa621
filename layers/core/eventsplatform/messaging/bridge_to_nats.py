"""Kafka → NATS: messages of the platform go to the subjects of JetStream streams, as `routes.yaml` says.

A partition's messages are stored in their order, and none after one that was not. What is delivered again is dropped by
JetStream, which knows its `Nats-Msg-Id`; the id names the route as well, for it is one per stream and not per subject.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from eventsplatform.adapters.jetstream import BATCH, OrderedPublisher, Publication
from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.garbage import spare_what_is_loaded
from eventsplatform.messaging.crossings import Crossings
from eventsplatform.messaging.envelope import CONTENT_TYPE, Message
from eventsplatform.messaging.model import Batch, Outcome
from eventsplatform.messaging.routes import Routes, Stream, ToNats, values_of
from eventsplatform.messaging.streams import ensure_stream

# The first line, and what separates names, values and lines.
HEADERS_OVERHEAD = 512


class _Crossing(NamedTuple):
    """A message on its way; `position` is its place in the batch."""

    position: int
    message: Message
    route: ToNats
    publication: Publication


class BridgeToNats:
    def __init__(self, routes: Routes, connection: NatsConnection) -> None:
        self._routes = routes
        self._connection = connection
        self._publisher: OrderedPublisher | None = None
        self._ready: set[str] = set()

    def forward(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Store what partitions have, each in its order and all at the same time.

        Raises DependencyUnavailableError when NATS can't be reached at all.
        """
        messages = sum(len(batch.messages) for batch in batches)
        try:
            return self._connection.run(self._forward_all(batches), timeout_seconds=5 + messages * 0.1)
        except TimeoutError as error:
            raise DependencyUnavailableError("message bus") from error

    async def _forward_all(self, batches: Sequence[Batch]) -> list[Outcome]:
        publisher = await self._live_publisher()
        crossings = Crossings()
        try:
            return await asyncio.gather(*(self._forward(batch, publisher, crossings) for batch in batches))
        finally:
            crossings.emit()

    async def _live_publisher(self) -> OrderedPublisher:
        if self._publisher is None or not self._publisher.is_live:
            self._publisher = await OrderedPublisher.open(await self._connection.client())
            self._ready.clear()
            spare_what_is_loaded()
        return self._publisher

    async def _forward(self, batch: Batch, publisher: OrderedPublisher, crossings: Crossings) -> Outcome:
        under_way, done, error = self._prepare(batch, publisher.largest, crossings)
        for _, group in groupby(under_way, key=lambda crossing: crossing.route.stream.name):
            crossing, failed = await self._store(list(group), publisher, crossings)
            if failed is not None:
                return crossing.position, failed
        return done, error

    def _prepare(
        self, batch: Batch, largest: int, crossings: Crossings
    ) -> tuple[list[_Crossing], int, Exception | None]:
        """What is to be stored, how many messages that will have done, and why it is not all of them."""
        under_way: list[_Crossing] = []
        for position, message in enumerate(batch.messages):
            try:
                route, captures = self._routes.route(batch.topic, message.type)
                if self._routes.is_loop(message):
                    crossings.loop(route.name, message)
                    continue
                publication = self._publication(route, message, captures)
                _require_size(publication, min(largest, route.stream.max_message_bytes))
            except PoisonMessageError as error:
                return under_way, position, error
            under_way.append(_Crossing(position, message, route, publication))
        return under_way, len(batch.messages), None

    def _publication(self, route: ToNats, message: Message, captures: Mapping[str, str]) -> Publication:
        """Raises PoisonMessageError for a message that has no subject of the route's stream."""
        lookup = values_of(message, captures)
        try:
            subject = route.subject.subject(lookup)
        except ValueError as error:
            raise PoisonMessageError(f"{route.name}: {error}") from error
        if not route.stream.takes(subject):
            raise PoisonMessageError(f"{route.name}: {subject[:200]!r} is no subject of the stream {route.stream.name}")
        headers = {
            **{name: template.fill(lookup) for name, template in route.headers.items()},
            "Nats-Msg-Id": message_id(route, message),
            "Content-Type": CONTENT_TYPE,
            "traceparent": message.traceparent,
        }
        return Publication(subject, message.to_json(**self._routes.mark(message)), headers)

    async def _store(
        self, group: Sequence[_Crossing], publisher: OrderedPublisher, crossings: Crossings
    ) -> tuple[_Crossing, Exception | None]:
        """The crossing that came last, all to one stream, and what kept it from being stored, if anything did."""
        stream = group[0].route.stream
        try:
            await self._make_ready(stream)
        except DependencyUnavailableError as error:
            return group[0], error
        for first in range(0, len(group), BATCH):
            part = group[first : first + BATCH]
            stored = await publisher.store([crossing.publication for crossing in part])
            count = crossings.duplicate if stored.are_duplicates else crossings.crossed
            for crossing in part[: stored.count]:
                count(crossing.route.name, crossing.message.time)
            if stored.error is not None:
                self._ready.discard(stream.name)
                return part[stored.count], stored.error
        return group[-1], None

    async def _make_ready(self, stream: Stream) -> None:
        if stream.name not in self._ready:
            await ensure_stream(await self._connection.jetstream(), stream)
            self._ready.add(stream.name)


def message_id(route: ToNats, message: Message) -> str:
    """The same for the same message on the same route, and another one for each of its replays."""
    parts = f"{route.name}\0{message.source}\0{message.id}\0{message.replay_id}"
    return hashlib.sha256(parts.encode(errors="surrogatepass")).hexdigest()


def _require_size(publication: Publication, largest: int) -> None:
    size = len(publication.payload) + HEADERS_OVERHEAD
    for name, value in publication.headers.items():
        size += len(name) + 4 * len(value)  # what it may come to in UTF-8
    if size > largest:
        raise PoisonMessageError(f"{publication.subject} has up to {size} bytes; allowed: {largest}")
