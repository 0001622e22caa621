"""From the outbox to Kafka: everything, in order per key, whoever is killed in between."""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from eventsplatform.adapters.kafka import KafkaMessage, KafkaProducer
from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings, KafkaSettings
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import TOPICS
from eventsplatform.messaging.relay import Relay, RelayError, Send
from eventsplatform.messaging.repository import PostgresRelayStore
from eventsplatform.operations.migrate import migrate
from local.engines import Endpoints
from local.triggers import ensure_topics
from tests.support.engines import RunningEngines, engines_running
from tests.support.killing import engine_killed
from tests.support.polling import eventually

PLENTY = 600_000
# Shards of no service, so that each test has its outbox to itself.
shards = itertools.count(1_000)


def remaining() -> int:
    return PLENTY


@pytest.fixture
def shard() -> int:
    return next(shards)


@pytest.fixture
def store(migrated_database: str) -> Iterator[PostgresRelayStore]:
    database = Database(DatabaseSettings(migrated_database, "messaging", False))
    yield PostgresRelayStore(database)
    database.close()


def sender(kafka: str, *, timeout_seconds: float = 10.0) -> Send:
    producer = KafkaProducer(KafkaSettings(kafka, False))

    def send(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        return producer.send(
            [
                KafkaMessage(topic, key=message.partitionkey, value=message.to_json(), headers=message.to_headers())
                for topic, message in messages
            ],
            timeout_seconds=timeout_seconds,
        )

    return send


def append(
    connection: psycopg.Connection[Any], shard: int, key: int, version: int, type: str = "events.updated"
) -> int:
    row = connection.execute(
        """
        INSERT INTO messaging.outbox
               (shard, aggregate_type, aggregate_id, version, type, partition_key, payload, traceparent)
        VALUES (%s, %s, %s, %s, %s, %s, %s, '')
        RETURNING id
        """,
        (shard, f"relay-{shard}", key, version, type, str(key), json.dumps({"shard": shard, "version": version})),
    ).fetchone()
    assert row is not None
    return int(row[0])


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, user="messaging", autocommit=True)


@dataclass(frozen=True)
class Record:
    key: str
    headers: dict[str, str | bytes | None]
    message: Message


def received(kafka: str, shard: int, topic: str = TOPICS["events"]) -> list[Record]:
    """Everything of one test that a topic holds by now, in the order of its partitions."""
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": "test", "enable.partition.eof": True, "enable.auto.commit": False}
    )
    unread = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
    records: list[Record] = []

    def read() -> bool:
        polled = consumer.poll(0.2)
        if polled is not None and (error := polled.error()) is not None:
            assert error.code() == KafkaError._PARTITION_EOF, error
            unread.discard(polled.partition())
        elif polled is not None:
            message = Message.from_json(polled.value() or b"")
            if message.data.get("shard") == shard:
                key = polled.key() or b""
                records.append(Record(key.decode(), dict(polled.headers() or []), message))
        return not unread

    try:
        eventually(read, within=30, every=0, what=f"the end of {topic}")
    finally:
        consumer.close()
    return records


def versions_by_key(records: Sequence[Record]) -> dict[str, list[int]]:
    versions: dict[str, list[int]] = defaultdict(list)
    for record in records:
        versions[record.key].append(record.message.sequence)
    return versions


def test_changes_arrive_in_order_per_key_and_once(
    endpoints: Endpoints, migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    ensure_topics(endpoints.kafka, TOPICS.values())
    with connect(migrated_database) as connection, connection.transaction():
        for version in range(1, 101):
            for key in range(1, 9):
                append(connection, shard, key, version)

    relayed = Relay(store, sender(endpoints.kafka)).drain(shard, remaining)

    assert relayed == 800
    assert store.pending(shard, 1) == []
    records = received(endpoints.kafka, shard)
    assert versions_by_key(records) == {str(key): list(range(1, 101)) for key in range(1, 9)}


def test_a_record_is_the_message_with_its_headers_and_key(
    endpoints: Endpoints, migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    ensure_topics(endpoints.kafka, TOPICS.values())
    with connect(migrated_database) as connection:
        append(connection, shard, 42, 7, "registrations.created")

    Relay(store, sender(endpoints.kafka)).drain(shard, remaining)

    (record,) = received(endpoints.kafka, shard, TOPICS["registrations"])
    message = record.message
    assert (message.id, message.type, message.sequence) == (f"relay-{shard}-42-7", "registrations.created", 7)
    assert record.key == "42"
    assert record.headers["ce_type"] == b"registrations.created"


def test_a_change_that_commits_late_is_relayed_although_a_later_row_already_was(
    endpoints: Endpoints, migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    ensure_topics(endpoints.kafka, TOPICS.values())
    relay = Relay(store, sender(endpoints.kafka))
    with connect(migrated_database) as late, connect(migrated_database) as early:
        late.execute("BEGIN")
        first = append(late, shard, 1, 1)
        second = append(early, shard, 2, 1)
        assert first < second

        assert relay.drain(shard, remaining) == 1
        late.execute("COMMIT")
        assert relay.drain(shard, remaining) == 1

    assert versions_by_key(received(endpoints.kafka, shard)) == {"1": [1], "2": [1]}


def test_a_relay_that_remembered_the_last_id_would_lose_the_late_change(
    migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    """The control: the gap is real, a cursor over ids does not see the row that committed late."""
    with connect(migrated_database) as late, connect(migrated_database) as early:
        late.execute("BEGIN")
        append(late, shard, 1, 1)
        last_seen = append(early, shard, 2, 1)
        late.execute("COMMIT")
        behind = early.execute("SELECT FROM messaging.outbox WHERE shard = %s AND id > %s", (shard, last_seen))

        assert behind.fetchall() == []
    assert len(store.pending(shard, 10)) == 2


def test_only_what_kafka_acknowledged_is_marked(migrated_database: str, store: PostgresRelayStore, shard: int) -> None:
    with connect(migrated_database) as connection:
        ids = [append(connection, shard, key, version) for version in (1, 2) for key in (1, 2)]

    def refuse_the_first(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        return [number != 0 for number in range(len(messages))]

    with pytest.raises(RelayError):
        Relay(store, refuse_the_first).drain(shard, remaining)

    assert [change.id for change in store.pending(shard, 10)] == [ids[0], ids[2]]


def test_relays_at_the_same_time_send_each_change_once(
    migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    with connect(migrated_database) as connection:
        for version in range(1, 51):
            append(connection, shard, 1, version)
    sent: list[int] = []
    both_have_asked = threading.Barrier(2)

    def send(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        sent.extend(message.sequence for _, message in messages)
        return [True] * len(messages)

    def relay() -> None:
        database = Database(DatabaseSettings(migrated_database, "messaging", False))
        both_have_asked.wait(timeout=10)
        try:
            Relay(PostgresRelayStore(database), send).drain(shard, remaining)
        finally:
            database.close()

    relays = [threading.Thread(target=relay) for _ in range(2)]
    for each in relays:
        each.start()
    for each in relays:
        each.join()

    assert sent == list(range(1, 51))
    assert store.pending(shard, 1) == []


def test_an_overtaken_relay_marks_nothing(migrated_database: str, store: PostgresRelayStore, shard: int) -> None:
    with connect(migrated_database) as connection:
        append(connection, shard, 1, 1)
    fence = store.acquire_lease(shard, uuid.uuid4(), 30)
    assert fence is not None
    assert store.acquire_lease(shard, uuid.uuid4(), 30) is None
    store.release_lease(shard, fence)
    assert store.acquire_lease(shard, uuid.uuid4(), 30) == fence + 1

    (change,) = store.pending(shard, 10)
    assert not store.mark_published(shard, fence, [change.id])
    assert not store.renew_lease(shard, fence, 30)
    assert len(store.pending(shard, 10)) == 1
    assert store.mark_published(shard, fence + 1, [change.id])


def test_a_lease_that_was_not_renewed_passes_on(store: PostgresRelayStore, shard: int) -> None:
    fence = store.acquire_lease(shard, uuid.uuid4(), 0)
    assert fence is not None

    assert eventually(lambda: store.acquire_lease(shard, uuid.uuid4(), 30)) == fence + 1


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngines]:
    """A Kafka that these tests may kill, and a Postgres beside it."""
    only = frozenset({"kafka", "postgres"})
    with engines_running(tmp_path_factory.mktemp("mortal"), only=only) as running:
        migrate(running.endpoints.postgres)
        ensure_topics(running.endpoints.kafka, TOPICS.values())
        yield running


def test_a_killed_broker_delays_the_changes_and_loses_none(mortal: RunningEngines, shard: int) -> None:
    url, kafka = mortal.endpoints.postgres, mortal.endpoints.kafka
    database = Database(DatabaseSettings(url, "messaging", False))
    store = PostgresRelayStore(database)
    relay = Relay(store, sender(kafka, timeout_seconds=1.0))
    with connect(url) as connection:
        append(connection, shard, 1, 1)
        assert relay.drain(shard, remaining) == 1
        with engine_killed(mortal, "kafka"):
            for version in range(2, 12):
                append(connection, shard, 1, version)

    ensure_topics(kafka, TOPICS.values())
    eventually(_drains(relay, store, shard), within=60, what="an empty outbox")

    # It came back empty: what it holds is what was relayed since.
    versions = versions_by_key(received(kafka, shard))["1"]
    assert list(dict.fromkeys(versions)) == list(range(2, 12))
    database.close()


def _drains(relay: Relay, store: PostgresRelayStore, shard: int) -> Callable[[], bool]:
    def drained() -> bool:
        relay.drain(shard, remaining)
        return store.pending(shard, 1) == []

    return drained
