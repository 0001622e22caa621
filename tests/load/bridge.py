"""What the bridge between Kafka and NATS carries each second, beside what carries the same without its guarantees.

Messages of 1 KB, on engines of this benchmark's own. Kafka → NATS is the function's handler in as many processes as the
machine has cores, each with its share of the partitions, as an event source mapping has environments. NATS → Kafka is
what the function runs, in a process for each of two shards, as it has two schedules where one is not enough: each half
of the subjects in its order (`bridge_routes.yaml`). All guarantees are on: schemas, order, deduplication, loop guard,
routes, lease and position in Postgres, metrics.

References, in turns with it: librdkafka and nats-py in the same number of processes doing no more than copying, with
acknowledgements; mq-bridge (a Rust core, on all cores) as it is fastest, in batches, where what was refused is stored
behind what came after it; and mq-bridge set up to give what it can of the bridge's guarantees. It has no subjects made
of what is in a message, no guard against loops and no positions. A rate is counted where messages arrive, from the
first that is there to the last. The processor time is that of the contestants, without the engines.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection as Pipe
from typing import Any
from uuid import uuid4

import nats
import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from eventsplatform.messaging.model import TOPICS
from eventsplatform.messaging.routes_file import platform_routes, read_routes
from eventsplatform.messaging.streams import ensure_stream
from eventsplatform.operations.migrate import migrate
from local.engines import Endpoints
from local.triggers import ensure_topics
from tests.load import copying
from tests.load.copying import Contestant, Lane
from tests.load.report import Table, Target
from tests.load.run import Run
from tests.support.engines import engines_running
from tests.support.lambda_events import event_data, message
from tests.support.polling import eventually

PARTITIONS = 4
SHARDS = ("north", "south")
ENTITIES = 500
BYTES = 1_024
ARRIVES_WITHIN_SECONDS = 120.0
OF_THE_BARE_COPY = 0.5
OF_MQ_BRIDGE = 1.0

BRIDGE, BARE = "the bridge", "bare librdkafka and nats-py"
MQ_BRIDGE, SAFE_MQ_BRIDGE = "mq-bridge", "mq-bridge, keeping order and no repeats"
ON_ALL_CORES = frozenset({MQ_BRIDGE, SAFE_MQ_BRIDGE})
TO_NATS: dict[str, Contestant] = {
    BRIDGE: copying.bridge_to_nats,
    BARE: copying.copy_to_nats,
    MQ_BRIDGE: copying.mq_bridge_to_nats,
    SAFE_MQ_BRIDGE: copying.safe_mq_bridge_to_nats,
}
FROM_NATS: dict[str, Contestant] = {
    BRIDGE: copying.bridge_from_nats,
    BARE: copying.copy_from_nats,
    MQ_BRIDGE: copying.mq_bridge_from_nats,
    SAFE_MQ_BRIDGE: copying.safe_mq_bridge_from_nats,
}


@dataclass
class Measured:
    """Of one contestant, a value for each round: messages per second, and microseconds of processor time for each."""

    rates: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)


async def bench(run: Run) -> None:
    count, rounds = (4_000, 1) if run.quick else (40_000, 3)
    with engines_running(run.directory / "bridge", only=frozenset({"kafka", "nats", "postgres"})) as running:
        endpoints = running.endpoints
        await asyncio.to_thread(migrate, endpoints.postgres)
        await asyncio.to_thread(_fill_topic, endpoints.kafka, count)
        await _fill_stream(endpoints.nats, count)
        load = os.getloadavg()[0]
        to_nats = {name: Measured() for name in TO_NATS}
        from_nats = {name: Measured() for name in FROM_NATS}
        for _ in range(rounds):
            for name, contestant in TO_NATS.items():
                await _carry_to_nats(endpoints, name, contestant, count, to_nats[name])
            for name, contestant in FROM_NATS.items():
                await _forget_consumers(endpoints.nats)
                await asyncio.to_thread(_carry_from_nats, endpoints, name, contestant, count, from_nats[name])
    for title, measured in (("Kafka → NATS", to_nats), ("NATS → Kafka", from_nats)):
        run.report.add(_table(title, measured, count, rounds, load))


def _fill_topic(kafka: str, count: int) -> None:
    topic = TOPICS["events"]
    ensure_topics(kafka, [topic], partitions=PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka, "acks": "all", "linger.ms": 5})
    for number in range(count):
        entity = number % ENTITIES
        told = message(entity, "events.updated", id=f"event-{entity}-{number}", sequence=number)
        padding = "x" * max(0, BYTES - len(told.to_json()))
        content = replace(told, data=event_data(entity, description=padding)).to_json()
        producer.produce(topic, key=str(entity), value=content, partition=entity % PARTITIONS)
        producer.poll(0)
    assert producer.flush(60) == 0


async def _fill_stream(url: str, count: int) -> None:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    await ensure_stream(jetstream, read_routes(copying.SHARDED_ROUTES).streams[copying.STREAM])
    for first in range(0, count, 500):
        under_way = []
        for number in range(first, min(first + 500, count)):
            sent = replace(message(number), id=f"command-{number}", type="partner.told", source="/partners/bench")
            padding = "x" * max(0, BYTES - len(sent.to_json()))
            content = replace(sent, data=event_data(number, description=padding)).to_json()
            subject = f"inbound.{SHARDS[number % len(SHARDS)]}.told.{number % ENTITIES}"
            under_way.append(await jetstream.publish_async(subject, content, headers={"Nats-Msg-Id": sent.id}))
        await asyncio.gather(*under_way)
    await client.close()


async def _carry_to_nats(
    endpoints: Endpoints, name: str, contestant: Contestant, count: int, measured: Measured
) -> None:
    """Into a stream that is empty at first."""
    client = await nats.connect(endpoints.nats)
    jetstream = client.jetstream()
    stream = "PLATFORM" if name == BRIDGE else f"b{uuid4().hex[:8]}"
    with suppress(NotFoundError):
        await jetstream.delete_stream(stream)
    if name == BRIDGE:
        await ensure_stream(jetstream, platform_routes().streams[stream])
    else:
        await jetstream.add_stream(StreamConfig(name=stream, subjects=[f"{stream}.>"], duplicate_window=3600))

    async def stored() -> int:
        return int((await jetstream.stream_info(stream)).state.messages)

    processes = 1 if name in ON_ALL_CORES else min(PARTITIONS, os.cpu_count() or 1)
    lanes = [
        Lane(
            endpoints.kafka,
            endpoints.nats,
            endpoints.postgres,
            TOPICS["events"],
            stream,
            partitions=tuple(range(share, PARTITIONS, processes)),
            count=sum(count // PARTITIONS for _ in range(share, PARTITIONS, processes)),
        )
        for share in range(processes)
    ]
    contest = _Contest(contestant, lanes)
    try:
        await asyncio.to_thread(contest.begin)
        first: tuple[float, int] | None = None
        while True:
            there, now = await stored(), time.perf_counter()
            if there and first is None:
                first = (now, there)
            if there >= count and first is not None:
                break
            contest.require_alive()
            await asyncio.sleep(0.002)
        measured.rates.append((count - first[1]) / (now - first[0]))
        measured.microseconds.append(await asyncio.to_thread(contest.end) / count * 1e6)
    finally:
        contest.close()
    await jetstream.delete_stream(stream)
    await client.close()


async def _forget_consumers(url: str) -> None:
    """So that the next one reads from the stream's beginning, whatever it calls its own."""
    client = await nats.connect(url)
    jetstream = client.jetstream()
    for consumer in await jetstream.consumers_info(copying.STREAM):
        await jetstream.delete_consumer(copying.STREAM, consumer.name)
    await client.close()


def _carry_from_nats(endpoints: Endpoints, name: str, contestant: Contestant, count: int, measured: Measured) -> None:
    """Into a topic that is empty at first."""
    topic = f"bench-{uuid4().hex[:8]}"
    ensure_topics(endpoints.kafka, [topic], partitions=PARTITIONS)
    with psycopg.connect(endpoints.postgres, autocommit=True) as connection:
        connection.execute("TRUNCATE messaging.bridge_leases")
    sources = ["inbound.>"] if name in ON_ALL_CORES else [f"inbound.{shard}.>" for shard in SHARDS]
    lanes = [
        Lane(endpoints.kafka, endpoints.nats, endpoints.postgres, source, topic, (), count // len(sources))
        for source in sources
    ]
    contest = _Contest(contestant, lanes)
    arrivals = _Arrivals(endpoints.kafka, topic)
    try:
        contest.begin()
        measured.rates.append(arrivals.rate(count, contest.require_alive))
        measured.microseconds.append(contest.end() / count * 1e6)
    finally:
        arrivals.close()
        contest.close()


class _Arrivals:
    """What is added to a topic from now on."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": "bench-arrivals",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        ended: set[int] = set()
        eventually(lambda: len(ended) == PARTITIONS or self._skip(ended), within=60, every=0, what="the topic's end")

    def _skip(self, ended: set[int]) -> bool:
        for each in self._consumer.consume(1_000, timeout=0.1):
            if each.error() is not None:
                ended.add(each.partition() or 0)
        return False

    def rate(self, count: int, require_alive: Callable[[], None]) -> float:
        there, began = 0, 0.0
        of_the_first = 0
        while there < count:
            arrived = sum(each.error() is None for each in self._consumer.consume(1_000, timeout=0.01))
            there += arrived
            if arrived and not began:
                began, of_the_first = time.perf_counter(), arrived
            require_alive()
        return (count - of_the_first) / (time.perf_counter() - began)

    def close(self) -> None:
        self._consumer.close()


class _Contest:
    """A contestant at work, in a process for each lane."""

    def __init__(self, contestant: Contestant, lanes: Sequence[Lane]) -> None:
        context = multiprocessing.get_context("spawn")
        pairs = [context.Pipe() for _ in lanes]
        self._pipes: list[Pipe] = [mine for mine, _ in pairs]
        self._processes = [
            context.Process(target=copying.run, args=(contestant, lane, theirs), daemon=True)
            for lane, (_, theirs) in zip(lanes, pairs, strict=True)
        ]
        self._deadline = time.monotonic() + ARRIVES_WITHIN_SECONDS
        for process in self._processes:
            process.start()

    def begin(self) -> None:
        """As soon as all of them are ready."""
        for pipe in self._pipes:
            assert pipe.poll(60)
            pipe.recv()
        for pipe in self._pipes:
            pipe.send("go")

    def end(self) -> float:
        """Let them stop; the seconds of processor time that they took."""
        seconds = 0.0
        for pipe in self._pipes:
            with suppress(BrokenPipeError):  # it has ended by itself
                pipe.send("stop")
        for pipe in self._pipes:
            assert pipe.poll(60)
            seconds += pipe.recv()
        return seconds

    def require_alive(self) -> None:
        if time.monotonic() > self._deadline or any(process.exitcode for process in self._processes):
            raise RuntimeError("a contestant has failed, or takes for ever")

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def _table(title: str, measured: dict[str, Measured], count: int, rounds: int, load: float) -> Table:
    rates = {name: statistics.median(each.rates) for name, each in measured.items()}
    rows: list[list[Any]] = [
        [
            name,
            rates[name],
            rates[BRIDGE] / rates[name],
            min(each.rates),
            max(each.rates),
            statistics.median(each.microseconds),
        ]
        for name, each in measured.items()
    ]
    targets = [
        Target(f"{title}, of {name}", _ratio(measured, name), least, "", at_least=True)
        for name, least in ((BARE, OF_THE_BARE_COPY), (MQ_BRIDGE, OF_MQ_BRIDGE), (SAFE_MQ_BRIDGE, OF_MQ_BRIDGE))
    ]
    return Table(
        title=f"{title}: messages of 1 KB per second",
        columns=["", "median", "the bridge's share", "slowest", "fastest", "processor µs each"],
        rows=rows,
        targets=targets,
        notes=[f"{count} messages, {rounds} rounds in turns; load average {load:.1f} before."],
    )


def _ratio(measured: dict[str, Measured], name: str) -> float:
    """The median over rounds: the contestants of one round had the same machine."""
    return statistics.median(
        mine / other for mine, other in zip(measured[BRIDGE].rates, measured[name].rates, strict=True)
    )
