"""The bridge from NATS between the session's engines, on a shard, a stream and a topic of a test's own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from confluent_kafka import Message as Record

from eventsplatform.adapters.kafka import KafkaMessage, KafkaProducer
from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings, KafkaSettings, NatsSettings
from eventsplatform.messaging.bridge_from_nats import BridgeFromNats, Start
from eventsplatform.messaging.bridge_repository import PostgresLeaseStore
from eventsplatform.messaging.inbound_records import InboundRecords
from eventsplatform.messaging.jetstream_source import JetStreamSource
from eventsplatform.messaging.routes import Routes
from eventsplatform.messaging.routes_file import KNOWN_TOPICS, ROUTES_FILE, read_routes
from eventsplatform.messaging.streams import ensure_stream
from local.engines import Endpoints
from local.triggers import ensure_topics
from tests.support.jetstream import Stored, over_nats, publish, stored
from tests.support.kafka import everything_in


@dataclass(frozen=True)
class Inbound:
    """`<name>.>` comes in on the stream `<NAME>` and goes to the topic `evp-<name>.v1`."""

    endpoints: Endpoints
    routes: Routes
    name: str
    databases: list[Database] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return f"evp-{self.name}.v1"

    @property
    def stream(self) -> str:
        return self.name.upper()

    @property
    def group(self) -> str:
        return f"evp-{self.name}"

    def bridge(
        self, *, nats: str = "", start: Start | None = None, wrap: Callable[[Start], Start] | None = None
    ) -> BridgeFromNats:
        """One more holder of a lease, with connections of its own."""
        self.databases.append(Database(DatabaseSettings(self.endpoints.postgres, "messaging", False)))
        if start is None:
            start = KafkaProducer(KafkaSettings(self.endpoints.kafka, iam_authentication=False)).start
        connection = NatsConnection(NatsSettings(nats or self.endpoints.nats, ""))
        return BridgeFromNats(
            self.routes.shards,
            PostgresLeaseStore(self.databases[-1]),
            JetStreamSource(connection),
            InboundRecords(self.routes, f"{self.group}.dlt"),
            wrap(start) if wrap else start,
        )

    def publish(self, *messages: tuple[str, bytes, dict[str, str]] | tuple[str, bytes]) -> None:
        publish(self.endpoints.nats, [(f"{self.name}.{each[0]}", each[1], dict(*each[2:])) for each in messages])

    def commands(self, count: int, *, entities: int = 5, first: int = 0) -> None:
        """Numbered messages about a few entities, in order."""
        self.publish(
            *(
                (f"events.update.{number % entities}", json.dumps({"number": number}).encode())
                for number in range(first, first + count)
            )
        )

    def records(self) -> list[Record]:
        return everything_in(self.endpoints.kafka, self.topic)

    def dead_letters(self) -> list[Record]:
        return everything_in(self.endpoints.kafka, f"{self.group}.dlt")

    def stored(self) -> list[Stored]:
        return stored(self.endpoints.nats, self.stream, f"{self.name}.>")

    def numbers(self) -> dict[str, list[int]]:
        """By key, the numbers of the commands in the topic, in its order."""
        found: dict[str, list[int]] = {}
        for record in self.records():
            found.setdefault((record.key() or b"").decode(), []).append(
                json.loads(record.value() or b"")["data"]["number"]
            )
        return found


@contextmanager
def inbound_of_ones_own(endpoints: Endpoints, directory: Path, **changes: Any) -> Iterator[Inbound]:
    """`changes` are made to each route of the shipped file."""
    name = f"in{uuid4().hex[:8]}"
    content = yaml.safe_load(ROUTES_FILE.read_text().replace("inbound", name).replace("INBOUND", name.upper()))
    content["kafka_to_nats"] = []
    del content["streams"]["PLATFORM"]
    for route in content["nats_to_kafka"]:
        route |= {"topic": f"evp-{name}.v1", "shard": name, **changes}
    path = directory / f"{name}.yaml"
    path.write_text(json.dumps(content))  # which YAML is, too; SAM's own loader makes mappings that YAML can't write
    ensure_topics(endpoints.kafka, [f"evp-{name}.v1", f"evp-{name}.dlt"])
    inbound = Inbound(endpoints, read_routes(path, topics={*KNOWN_TOPICS, f"evp-{name}.v1"}), name)
    over_nats(endpoints.nats, lambda client: ensure_stream(client.jetstream(), inbound.routes.streams[inbound.stream]))
    try:
        yield inbound
    finally:
        for database in inbound.databases:
            database.close()


def once() -> Callable[[], bool]:
    """Time for one look at the stream."""
    answers = iter([True, True])
    return lambda: next(answers, False)


def until(reached: Callable[[], bool], *, within: float = 20.0) -> Callable[[], bool]:
    """Time until something is so."""
    deadline = time.monotonic() + within

    def has_time() -> bool:
        assert time.monotonic() < deadline, "not within the time"
        return not reached()

    return has_time


def recording(sent: list[KafkaMessage]) -> Callable[[Start], Start]:
    """A wrapper that notes what has been acknowledged."""

    def wrap(start: Start) -> Start:
        def start_and_record(messages: Sequence[KafkaMessage]) -> Callable[[], list[bool]]:
            finish = start(messages)

            def finish_and_record() -> list[bool]:
                acknowledged = finish()
                sent.extend(message for message, done in zip(messages, acknowledged, strict=True) if done)
                return acknowledged

            return finish_and_record

        return start_and_record

    return wrap
