"""What single hops take without the platform around them: the references of `tests.load.projections`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from websockets.asyncio.client import connect

from eventsplatform.search.index import REFRESH_INTERVAL
from local.triggers import ensure_topics
from local.triggers.kafka.consumer import FETCH_WAIT_MS
from tests.load.http_client import HttpClient
from tests.load.samples import Summary

INDEX = TOPIC = "bench"
ARRIVES_WITHIN_SECONDS = 10.0

_moments = random.Random(1)


async def index_to_hit(url: str, samples: int) -> Summary:
    """OpenSearch: from indexing a document until a search finds it, with the platform's refresh interval."""
    timings = []
    async with HttpClient(url) as client:
        settings = {"settings": {"index": {"refresh_interval": REFRESH_INTERVAL}}}
        await client.expect(200, "PUT", f"/{INDEX}", settings)
        for number in range(samples):
            query = {"query": {"term": {"number": number}}}
            started = time.perf_counter()
            await client.expect(201, "PUT", f"/{INDEX}/_doc/{number}", {"number": number})
            while not (await client.expect(200, "POST", f"/{INDEX}/_search", query)).json()["hits"]["hits"]:
                await asyncio.sleep(0.002)
            timings.append(time.perf_counter() - started)
            await asyncio.sleep(_pause())
        await client.expect(200, "DELETE", f"/{INDEX}")
    return Summary.of(timings)


async def ping_to_pong(url: str, headers: Mapping[str, str], samples: int) -> Summary:
    """A frame to a WebSocket route and its reply: the gateway and one function."""
    timings = []
    ping = orjson.dumps({"action": "ping"}).decode()
    async with connect(url, additional_headers=headers, open_timeout=20) as socket:
        for _ in range(1 + samples):
            started = time.perf_counter()
            await socket.send(ping)
            await socket.recv()
            timings.append(time.perf_counter() - started)
            await asyncio.sleep(_pause())
    return Summary.of(timings[1:])


async def produce_to_consume(bootstrap_servers: str, samples: int) -> Summary:
    """Kafka: from producing a message until a consumer with the mappings' settings has it."""
    return await asyncio.to_thread(_produce_to_consume, bootstrap_servers, samples)


def _produce_to_consume(bootstrap_servers: str, samples: int) -> Summary:
    ensure_topics(bootstrap_servers, [TOPIC], partitions=1)
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 2})
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": TOPIC,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": FETCH_WAIT_MS,
        }
    )
    timings = []
    try:
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        for _ in range(1 + samples):
            started = time.perf_counter()
            producer.produce(TOPIC, b"{}")
            producer.flush(ARRIVES_WITHIN_SECONDS)
            message = consumer.poll(ARRIVES_WITHIN_SECONDS)
            if message is None or message.error() is not None:
                raise RuntimeError(f"Kafka gave no message: {message and message.error()}")
            timings.append(time.perf_counter() - started)
            time.sleep(_pause())
    finally:
        consumer.close()
    return Summary.of(timings[1:])


def _pause() -> float:
    """Seconds between samples: random ones, for regular ones could keep step with a refresh or a poll."""
    return _moments.uniform(0.0, 0.15)
