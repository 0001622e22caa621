"""What `tests.load.bridge` sets to work, each in a process of its own: all that carries messages across.

Each gets ready, says so, waits for the word and then carries what there is. All produce with `acks=all`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from nats.js.api import AckPolicy, ConsumerConfig

from eventsplatform.adapters.kafka import KafkaMessage, KafkaProducer
from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings, KafkaSettings, NatsSettings
from eventsplatform.messaging import schemas
from eventsplatform.messaging.bridge_from_nats import BridgeFromNats
from eventsplatform.messaging.bridge_repository import PostgresLeaseStore
from eventsplatform.messaging.bridge_to_nats import BridgeToNats
from eventsplatform.messaging.inbound_records import InboundRecords
from eventsplatform.messaging.jetstream_source import JetStreamSource
from eventsplatform.messaging.routes_file import platform_routes, read_routes
from tests.support import lambda_events

FETCHED_AT_ONCE = 500
STREAM = "INBOUND"
# The stream's subjects in two halves, a shard for each.
SHARDED_ROUTES = Path(__file__).with_name("bridge_routes.yaml")
_REQUIRED = ("specversion", "id", "source", "type")


@dataclass(frozen=True)
class Lane:
    """What to carry: `count` messages of these partitions of a topic, or of these subjects, and to where."""

    kafka: str
    nats: str
    postgres: str
    source: str
    target: str
    partitions: tuple[int, ...]
    count: int


def ready(pipe: Pipe) -> None:
    """Say so, and wait for the word."""
    pipe.send("ready")
    pipe.recv()


def assigned(lane: Lane) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": lane.kafka,
            "group.id": f"bench-{lane.target}",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
        }
    )
    consumer.assign([TopicPartition(lane.source, partition, 0) for partition in lane.partitions])
    return consumer


def batches(consumer: Consumer, count: int) -> Any:
    left = count
    while left:
        messages = consumer.consume(min(FETCHED_AT_ONCE, left), timeout=1)
        left -= len(messages)
        if messages:
            yield messages


# Kafka → NATS -------------------------------------------------------------------------------------------------


def bridge_to_nats(lane: Lane, pipe: Pipe) -> None:
    """The deployed function's handler, called with the events that an event source mapping makes."""
    from eventsplatform.entrypoints.kafka import kafka_partitions_consumer

    bridge = BridgeToNats(platform_routes(), NatsConnection(NatsSettings(lane.nats, "")))
    handler = kafka_partitions_consumer(bridge.forward, dead_letters=_no_dead_letters, group=lambda: "bench")
    consumer = assigned(lane)
    schemas.check(lambda_events.message(1, "events.updated"))
    bridge.forward([])
    ready(pipe)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # metrics, one line for each hundred
        for messages in batches(consumer, lane.count):
            answer = handler(_msk_event(messages), lambda_events.Context())
            assert answer == {"batchItemFailures": []}, answer
            consumer.commit(message=messages[-1])


def _msk_event(messages: Sequence[Message]) -> dict[str, Any]:
    records: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        records.setdefault(f"{message.topic()}-{message.partition()}", []).append(
            {
                "topic": message.topic(),
                "partition": message.partition(),
                "offset": message.offset(),
                "timestamp": message.timestamp()[1],
                "value": base64.b64encode(message.value() or b"").decode(),
            }
        )
    return {"records": records}


def _no_dead_letters() -> Any:
    raise AssertionError("there is nothing to put aside")


def copy_to_nats(lane: Lane, pipe: Pipe) -> None:
    """librdkafka and nats-py: 500 messages under way at a time, each acknowledged."""

    async def copy() -> None:
        client = await nats.connect(lane.nats)
        jetstream, consumer = client.jetstream(), assigned(lane)
        ready(pipe)
        for messages in batches(consumer, lane.count):
            under_way = [
                await jetstream.publish_async(
                    f"{lane.target}.{(message.key() or b'').decode()}", message.value() or b""
                )
                for message in messages
            ]
            await asyncio.gather(*under_way)
            consumer.commit(message=messages[-1])
        await client.close()

    asyncio.run(copy())


def mq_bridge_to_nats(lane: Lane, pipe: Pipe) -> None:
    """mq-bridge as it is fastest: it stores what stands behind a message that was refused, and then that one."""
    _run_routes([_mq_bridge_to_nats(lane, batch_size=500)], pipe)


def safe_mq_bridge_to_nats(lane: Lane, pipe: Pipe) -> None:
    """mq-bridge as it keeps order, message by message, a route for each partition; and looking at what it carries."""
    _run_routes([_mq_bridge_to_nats(lane, batch_size=1, middlewares=[_LOOK]) for _ in lane.partitions], pipe)


def _mq_bridge_to_nats(lane: Lane, *, batch_size: int, middlewares: Sequence[Any] = ()) -> dict[str, Any]:
    """With JetStream's deduplication. The subject is the same for all messages: mq-bridge makes none of them."""
    source = {
        "url": lane.kafka,
        "topic": lane.source,
        "group_id": f"bench-{lane.target}",
        "consumer_options": [["auto.offset.reset", "earliest"], ["session.timeout.ms", "6000"]],
    }
    target = {"url": lane.nats, "subject": f"{lane.target}.all", "stream": lane.target, "deduplicate": True}
    read = {"kafka": source, "middlewares": list(middlewares)}
    return {"input": read, "output": {"nats": target}, "batch_size": batch_size}


# What is no CloudEvent is left out.
_LOOK = {
    "transform": {
        "schema": {
            "type": "object",
            "properties": {**{name: {"type": "string"} for name in _REQUIRED}, "data": {"type": "object"}},
            "required": [*_REQUIRED, "data"],
        },
        "coerce": False,
        "apply_defaults": False,
    }
}


def _run_routes(configurations: Sequence[dict[str, Any]], pipe: Pipe) -> None:
    from mq_bridge import Route

    routes = [Route.from_config(configuration) for configuration in configurations]
    ready(pipe)
    for route in routes:
        route.start()
    pipe.recv()
    for route in routes:
        route.stop()
    for route in routes:
        route.join()


# NATS → Kafka -------------------------------------------------------------------------------------------------


def bridge_from_nats(lane: Lane, pipe: Pipe) -> None:
    """What the deployed function runs: a shard that nobody else has, under its lease in Postgres."""
    database = Database(DatabaseSettings(lane.postgres, "messaging", False))
    producer = KafkaProducer(KafkaSettings(lane.kafka, iam_authentication=False))
    produced = 0

    def start(messages: Sequence[KafkaMessage]) -> Callable[[], list[bool]]:
        finish = producer.start(messages)

        def count() -> list[bool]:
            nonlocal produced
            acknowledged = finish()
            produced += sum(acknowledged)
            return acknowledged

        return count

    connection = NatsConnection(NatsSettings(lane.nats, ""))
    routes = read_routes(SHARDED_ROUTES)
    routes = replace(routes, from_nats=tuple(replace(each, topic=lane.target) for each in routes.from_nats))
    records = InboundRecords(routes, "bench.dlt")
    bridge = BridgeFromNats(routes.shards, PostgresLeaseStore(database), JetStreamSource(connection), records, start)
    producer.send([])
    database.fetch_one("SELECT 1")
    connection.ping()
    ready(pipe)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        bridge.run(lambda: produced < lane.count)


def copy_from_nats(lane: Lane, pipe: Pipe) -> None:
    """nats-py's pull subscription and librdkafka: 500 messages at a time, flushed and then acknowledged."""

    async def copy() -> None:
        client = await nats.connect(lane.nats)
        config = ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=4 * FETCHED_AT_ONCE)
        subscription = await client.jetstream().pull_subscribe(
            lane.source, durable=f"bench-{uuid4().hex[:8]}", stream=STREAM, config=config
        )
        producer = Producer({"bootstrap.servers": lane.kafka, "acks": "all", "linger.ms": 2})
        producer.list_topics(timeout=10)
        ready(pipe)
        left = lane.count
        while left:
            messages = await subscription.fetch(FETCHED_AT_ONCE, timeout=5)
            for message in messages:
                producer.produce(lane.target, key=message.subject.rpartition(".")[2], value=message.data)
            producer.flush(10)
            await messages[-1].ack_sync()
            left -= len(messages)
        await client.close()

    asyncio.run(copy())


def mq_bridge_from_nats(lane: Lane, pipe: Pipe) -> None:
    """mq-bridge as it is fastest: with its durable consumer, and each message keyed by its place in the stream."""
    source = {"url": lane.nats, "subject": lane.source, "stream": STREAM}
    target = {"url": lane.kafka, "topic": lane.target}
    _run_routes([{"input": {"nats": source}, "output": {"kafka": target}, "batch_size": 500}], pipe)


def safe_mq_bridge_from_nats(lane: Lane, pipe: Pipe) -> None:
    """mq-bridge as it keeps order by subject and knows in PostgreSQL what it has carried; looking at it, too."""
    source = {"url": lane.nats, "subject": lane.source, "stream": STREAM, "source_metadata": True}
    target = {
        "url": lane.kafka,
        "topic": lane.target,
        "partition_key": "mqb.src.nats_subject",
        "producer_options": [["enable.idempotence", "true"], ["acks", "all"]],
    }
    store = f"postgres{lane.postgres.removeprefix('postgresql')}/{lane.target.replace('-', '_')}"
    known = {"deduplication": {"store": store, "ttl_seconds": 3_600}}
    read = {"nats": source, "middlewares": [_LOOK, known]}
    _run_routes([{"input": read, "output": {"kafka": target}, "batch_size": 500}], pipe)


Contestant = Callable[[Lane, Pipe], None]


def run(contestant: Contestant, lane: Lane, pipe: Pipe) -> None:
    """In a process of its own; tells the seconds of processor time that it took since the word."""
    began = 0.0

    class Timed:
        def send(self, word: str) -> None:
            pipe.send(word)

        def recv(self) -> Any:
            nonlocal began
            word = pipe.recv()
            began = began or time.process_time()
            return word

    contestant(lane, Timed())  # type: ignore[arg-type]
    sys.stdout.flush()
    pipe.send(time.process_time() - began)
