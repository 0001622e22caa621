"""Each engine answers over its own protocol, where and how the platform's clients will use it."""

from __future__ import annotations

import asyncio
import uuid

import httpx
import nats
import psycopg
import pytest
import redis
from confluent_kafka.admin import AdminClient

from local.engines import NAMES, Endpoints
from local.engines.engine import Engine
from local.engines.engines import ENGINES
from tests.integration.engines.state_machines import execute_state_machine
from tests.support.engines import RunningEngines


def test_every_engine_is_running_with_a_process_of_its_own(engines: RunningEngines) -> None:
    statuses = engines.statuses()

    assert set(statuses) == NAMES
    assert {status.state for status in statuses.values()} == {"running"}
    assert len({status.pid for status in statuses.values()}) == len(NAMES)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_check_accepts_the_address_that_clients_get(engine: type[Engine], engines: RunningEngines) -> None:
    asyncio.run(engine.check(engines.statuses()[engine.name].address))


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_check_refuses_an_address_where_another_engine_answers(engine: type[Engine], endpoints: Endpoints) -> None:
    other = endpoints.nats if engine.name != "nats" else endpoints.kafka  # NATS speaks first: quickly found out
    address = {
        "postgres": "postgresql://postgres@{}/events_platform",
        "redis": "redis://{}/0",
        "kafka": "{}",
        "nats": "nats://{}",
        "opensearch": "http://{}",
        "aws": "http://{}",
    }[engine.name].format(other.removeprefix("nats://"))

    with pytest.raises(Exception):  # noqa: B017, PT011 - each client library has its own
        asyncio.run(engine.check(address))


def test_postgres_has_the_database_and_the_durability_that_the_outbox_relies_on(endpoints: Endpoints) -> None:
    with psycopg.connect(endpoints.postgres) as connection:
        database, fsync, commit = (
            connection.execute(
                "SELECT current_database(), current_setting('fsync'), current_setting('synchronous_commit')"
            ).fetchone()
            or ()
        )
        extensions = {name for (name,) in connection.execute("SELECT name FROM pg_available_extensions")}

    assert (database, fsync, commit) == ("events_platform", "on", "on")
    assert {"btree_gist", "citext", "cube", "earthdistance", "pg_trgm", "unaccent", "vector"} <= extensions


def test_valkey_keeps_what_it_is_given(endpoints: Endpoints) -> None:
    key = f"test:{uuid.uuid4()}"
    with redis.Redis.from_url(endpoints.redis) as client:
        client.set(key, "value", ex=60)
        assert client.get(key) == b"value"


def test_nats_stores_messages_in_a_stream(endpoints: Endpoints) -> None:
    async def publish_and_fetch() -> bytes:
        name = f"test-{uuid.uuid4().hex}"
        client = await nats.connect(endpoints.nats)
        stream = client.jetstream()
        await stream.add_stream(name=name, subjects=[f"{name}.>"])
        await stream.publish(f"{name}.created", b"payload")
        message = await stream.get_msg(name, seq=1)
        await client.close()
        return message.data or b""

    assert asyncio.run(publish_and_fetch()) == b"payload"


def test_kafka_names_the_address_it_is_reached_at(endpoints: Endpoints) -> None:
    metadata = AdminClient({"bootstrap.servers": endpoints.kafka}).list_topics(timeout=5)

    assert [f"{broker.host}:{broker.port}" for broker in metadata.brokers.values()] == [endpoints.kafka]


def test_opensearch_finds_a_document_once_refreshed(endpoints: Endpoints) -> None:
    index = f"{endpoints.opensearch}/test-{uuid.uuid4().hex}"

    httpx.put(f"{index}/_doc/1", params={"refresh": "true"}, json={"title": "Jazz night"}).raise_for_status()
    found = httpx.post(f"{index}/_search", json={"query": {"match": {"title": "jazz"}}}).json()

    assert [hit["_id"] for hit in found["hits"]["hits"]] == ["1"]


def test_moto_executes_state_machines(endpoints: Endpoints) -> None:
    assert execute_state_machine(endpoints.moto) == {"answer": 42}
