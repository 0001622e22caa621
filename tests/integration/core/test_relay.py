"""From the outbox to Kafka: everything, in order per key, whoever is killed in between."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil
import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from eventsplatform.adapters.kafka import KafkaMessage, KafkaProducer
from eventsplatform.adapters.postgres import Database, Row
from eventsplatform.config import DatabaseSettings, KafkaSettings
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import TOPICS
from eventsplatform.messaging.relay import PendingChange, Relay, RelayError, Send
from eventsplatform.messaging.repository import OUTBOX, PostgresRelayStore
from eventsplatform.months import months_ahead
from eventsplatform.operations.migrate import migrate
from local.engines import Endpoints
from local.triggers import ensure_topics
from tests.support.database import administrator, database_beside
from tests.support.engines import RunningEngines, engines_running
from tests.support.killing import engine_frozen, engine_killed
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
    """The row's id."""
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


def relay_of(store: PostgresRelayStore, send: Send, *, lease_seconds: int = 30) -> Relay:
    """One that goes to rest as soon as nothing is pending."""
    return Relay(store, send, awake_seconds=0, lease_seconds=lease_seconds)


def pending(store: PostgresRelayStore, shard: int) -> list[int]:
    return [change.id for change in store.pending([shard], 1_000)]


def test_changes_arrive_in_order_per_key_and_once(
    endpoints: Endpoints, migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    ensure_topics(endpoints.kafka, TOPICS.values())
    with connect(migrated_database) as connection, connection.transaction():
        for version in range(1, 101):
            for key in range(1, 9):
                append(connection, shard, key, version)

    relayed = relay_of(store, sender(endpoints.kafka)).run([shard], remaining)

    assert relayed == 800
    assert pending(store, shard) == []
    records = received(endpoints.kafka, shard)
    assert versions_by_key(records) == {str(key): list(range(1, 101)) for key in range(1, 9)}


def test_a_record_is_the_message_with_its_headers_and_key(
    endpoints: Endpoints, migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    ensure_topics(endpoints.kafka, TOPICS.values())
    with connect(migrated_database) as connection:
        append(connection, shard, 42, 7, "registrations.created")

    relay_of(store, sender(endpoints.kafka)).run([shard], remaining)

    (record,) = received(endpoints.kafka, shard, TOPICS["registrations"])
    message = record.message
    assert (message.id, message.type, message.sequence) == (f"relay-{shard}-42-7", "registrations.created", 7)
    assert record.key == "42"
    assert record.headers["ce_type"] == b"registrations.created"


# Transactions that commit late ---------------------------------------------------------------------------


class CursorStore(PostgresRelayStore):
    """The control: remembers the last id that it has read, and looks behind it."""

    last_read = 0

    def pending(self, shards: Collection[int], limit: int) -> list[PendingChange]:
        found = [change for change in super().pending(shards, limit) if change.id > self.last_read]
        self.last_read = max([self.last_read, *(change.id for change in found)])
        return found


@pytest.mark.parametrize(("kind", "lost"), [(PostgresRelayStore, 0), (CursorStore, 1)], ids=["by flag", "by cursor"])
def test_a_change_that_commits_after_a_later_row_was_relayed(
    migrated_database: str, store: PostgresRelayStore, shard: int, kind: type[PostgresRelayStore], lost: int
) -> None:
    """Two transactions commit in the reverse order of their ids. A cursor over ids would lose the one that was late."""
    store.__class__ = kind
    sent: list[Message] = []

    def send(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        sent.extend(message for _, message in messages)
        return [True] * len(messages)

    with connect(migrated_database) as late, connect(migrated_database) as early:
        late.execute("BEGIN")
        first = append(late, shard, 1, 1)
        second = append(early, shard, 2, 1)
        assert first < second

        assert relay_of(store, send).run([shard], remaining) == 1
        late.execute("COMMIT")
        relay_of(store, send).run([shard], remaining)

    assert len(sent) == 2 - lost
    with administrator(migrated_database) as connection:
        waiting = "SELECT FROM messaging.outbox WHERE shard = %s AND published_at IS NULL"
        assert len(connection.execute(waiting, (shard,)).fetchall()) == lost


# What is marked, and by whom -----------------------------------------------------------------------------


def test_only_what_kafka_acknowledged_is_marked(migrated_database: str, store: PostgresRelayStore, shard: int) -> None:
    with connect(migrated_database) as connection:
        ids = [append(connection, shard, key, version) for version in (1, 2) for key in (1, 2)]

    def refuse_the_first(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        return [number != 0 for number in range(len(messages))]

    with pytest.raises(RelayError):
        relay_of(store, refuse_the_first).run([shard], remaining)

    assert pending(store, shard) == [ids[0], ids[2]]


def test_no_transaction_is_open_while_messages_are_sent(
    migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    with connect(migrated_database) as connection:
        append(connection, shard, 1, 1)
    states: list[dict[str, Any]] = []

    def look_while_sending(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        with administrator(migrated_database) as connection:
            states.extend(
                connection.execute(
                    """
                    SELECT state, backend_xid, backend_xmin
                      FROM pg_stat_activity
                     WHERE datname = current_database() AND usename = 'messaging' AND query ~ 'CROSS JOIN LATERAL'
                    """
                ).fetchall()
            )
        return [True] * len(messages)

    relay_of(store, look_while_sending).run([shard], remaining)

    assert states == [{"state": "idle", "backend_xid": None, "backend_xmin": None}]


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
            relay_of(PostgresRelayStore(database), send).run([shard], remaining)
        finally:
            database.close()

    relays = [threading.Thread(target=relay) for _ in range(2)]
    for each in relays:
        each.start()
    for each in relays:
        each.join()

    assert sent == list(range(1, 51))
    assert pending(store, shard) == []


def test_of_several_shards_each_relay_gets_those_that_are_free(store: PostgresRelayStore, shard: int) -> None:
    second, third = next(shards), next(shards)

    one = store.acquire_leases([shard, second], uuid.uuid4(), 30)
    other = store.acquire_leases([shard, second, third], uuid.uuid4(), 30)

    assert one.keys() == {shard, second}
    assert other.keys() == {third}


def test_an_overtaken_relay_marks_nothing(migrated_database: str, store: PostgresRelayStore, shard: int) -> None:
    with connect(migrated_database) as connection:
        append(connection, shard, 1, 1)
    first = store.acquire_leases([shard], uuid.uuid4(), 30)
    assert store.acquire_leases([shard], uuid.uuid4(), 30) == {}
    store.release_leases(first)
    second = store.acquire_leases([shard], uuid.uuid4(), 30)
    assert second[shard] == first[shard] + 1

    changes = store.pending([shard], 10)
    assert store.mark_published(first, changes, 30) == {}
    assert store.renew_leases(first, 30) == {}
    store.release_leases(first)
    assert len(pending(store, shard)) == 1
    assert store.mark_published(second, changes, 30) == second
    assert pending(store, shard) == []


def test_a_lease_that_was_not_renewed_passes_on(store: PostgresRelayStore, shard: int) -> None:
    first = store.acquire_leases([shard], uuid.uuid4(), 0)

    second = eventually(lambda: store.acquire_leases([shard], uuid.uuid4(), 30))

    assert second[shard] == first[shard] + 1


def test_marking_finds_the_month_of_each_change(migrated_database: str, store: PostgresRelayStore, shard: int) -> None:
    with connect(migrated_database) as connection:
        for version, month in enumerate(months_ahead(datetime.now(UTC)), start=1):
            append(connection, shard, 1, version)
            connection.execute(
                "UPDATE messaging.outbox SET occurred_at = %s WHERE shard = %s AND version = %s",
                (month, shard, version),
            )
    leases = store.acquire_leases([shard], uuid.uuid4(), 30)
    changes = store.pending([shard], 10)
    assert len({change.occurred_at.month for change in changes}) == 3

    store.mark_published(leases, changes, 30)

    assert pending(store, shard) == []


class Explaining(Database):
    """Notes the plan of each statement before it is run."""

    def __init__(self, settings: DatabaseSettings) -> None:
        super().__init__(settings)
        self.plans: list[str] = []

    def fetch_all(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        plan = super().fetch_all(f"EXPLAIN {sql}", parameters)
        self.plans.append("\n".join(row["QUERY PLAN"] for row in plan))
        return super().fetch_all(sql, parameters)


def test_no_statement_of_a_relay_reads_what_was_relayed_long_ago(migrated_database: str) -> None:
    url = database_beside(migrated_database, "relayed_long_ago")
    migrate(url)
    with administrator(url) as connection:
        connection.execute(
            """
            INSERT INTO messaging.outbox (shard, aggregate_type, aggregate_id, version, type, partition_key, payload,
                                          traceparent, published_at)
            SELECT 1, 'relayed', number, 1, 'events.updated', '1', '{}', '', now() FROM generate_series(1, 30000) number
            """
        )
        connection.execute("VACUUM ANALYZE messaging.outbox")
    with connect(url) as connection:
        append(connection, 1, 1, 1)
    database = Explaining(DatabaseSettings(url, "messaging", False))

    assert relay_of(PostgresRelayStore(database), lambda messages: [True] * len(messages)).run([1], remaining) == 1

    database.close()
    assert sum("Index Scan using outbox_before_pending" in plan for plan in database.plans) >= 2
    # The months to come are empty, and read as they are.
    this_month = OUTBOX.partition(datetime.now(UTC).date())
    assert not [plan for plan in database.plans if f"Seq Scan on {this_month}" in plan]


# Relays that are killed or stand still -------------------------------------------------------------------


def _relay_that(harm: signal.Signals, url: str, kafka: str, shard: int) -> None:
    """In a process of its own: sends what is pending, then does this to itself before it has marked any of it."""
    database = Database(DatabaseSettings(url, "messaging", False))
    to_kafka = sender(kafka)

    def send(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        acknowledged = to_kafka(messages)
        assert all(acknowledged)
        os.kill(os.getpid(), harm)
        return acknowledged

    relay_of(PostgresRelayStore(database), send, lease_seconds=1).run([shard], remaining)


@contextmanager
def process(harm: signal.Signals, *arguments: object) -> Iterator[psutil.Process]:
    started = multiprocessing.get_context("spawn").Process(target=_relay_that, args=(harm, *arguments), daemon=True)
    started.start()
    try:
        yield psutil.Process(started.pid)
    finally:
        started.kill()
        started.join()


def test_what_a_relay_sent_before_it_was_killed_is_sent_again_as_the_same_messages(
    endpoints: Endpoints, migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    ensure_topics(endpoints.kafka, TOPICS.values())
    with connect(migrated_database) as connection:
        for version in (1, 2, 3):
            append(connection, shard, 1, version)

    with process(signal.SIGKILL, migrated_database, endpoints.kafka, shard) as relay:
        relay.wait(30)
    assert len(pending(store, shard)) == 3
    relayed = eventually(lambda: relay_of(store, sender(endpoints.kafka)).run([shard], remaining))

    assert relayed == 3
    records = received(endpoints.kafka, shard)
    assert [record.message.sequence for record in records] == [1, 2, 3, 1, 2, 3]
    assert len({record.message.id for record in records}) == 3


def test_a_relay_that_comes_to_life_again_behind_its_successor_marks_nothing(
    endpoints: Endpoints, migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    ensure_topics(endpoints.kafka, TOPICS.values())
    with connect(migrated_database) as connection:
        append(connection, shard, 1, 1)
        with process(signal.SIGSTOP, migrated_database, endpoints.kafka, shard) as relay:
            # Given a relay that has sent a change and stands still, and its successor, who takes a lease and stays
            eventually(lambda: relay.status() == psutil.STATUS_STOPPED, within=30, what="a relay that stands still")
            successor = eventually(lambda: store.acquire_leases([shard], uuid.uuid4(), 30), what="an expired lease")

            # When it comes to life
            relay.resume()
            relay.wait(30)

    # Then what it sent is the successor's to mark
    assert len(pending(store, shard)) == 1
    assert store.renew_leases(successor, 30) == successor


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngines]:
    """A Kafka that these tests may kill, and a Postgres beside it."""
    only = frozenset({"kafka", "postgres"})
    with engines_running(tmp_path_factory.mktemp("mortal"), only=only) as running:
        migrate(running.endpoints.postgres)
        ensure_topics(running.endpoints.kafka, TOPICS.values())
        yield running


@pytest.fixture
def store_beside_mortal(mortal: RunningEngines) -> Iterator[PostgresRelayStore]:
    database = Database(DatabaseSettings(mortal.endpoints.postgres, "messaging", False))
    yield PostgresRelayStore(database)
    database.close()


def test_a_frozen_broker_delays_the_changes_and_keeps_their_order(
    mortal: RunningEngines, store_beside_mortal: PostgresRelayStore, shard: int
) -> None:
    store, kafka = store_beside_mortal, mortal.endpoints.kafka
    relay = relay_of(store, sender(kafka, timeout_seconds=1.0))
    with connect(mortal.endpoints.postgres) as connection:
        append(connection, shard, 1, 1)
        assert relay.run([shard], remaining) == 1
        for version in range(2, 12):
            append(connection, shard, 1, version)

    with engine_frozen(mortal, "kafka"), pytest.raises(RelayError):
        relay.run([shard], remaining)
    assert len(pending(store, shard)) == 10
    eventually(_drains(relay, store, shard), within=60, what="an empty outbox")

    # A broker that was asked before it froze may have taken them then: repeats are the same messages, in order.
    versions = versions_by_key(received(kafka, shard))["1"]
    assert list(dict.fromkeys(versions)) == list(range(1, 12))


def test_a_killed_broker_delays_the_changes_and_loses_none(
    mortal: RunningEngines, store_beside_mortal: PostgresRelayStore, shard: int
) -> None:
    store, kafka = store_beside_mortal, mortal.endpoints.kafka
    relay = relay_of(store, sender(kafka, timeout_seconds=1.0))
    with connect(mortal.endpoints.postgres) as connection:
        append(connection, shard, 1, 1)
        assert relay.run([shard], remaining) == 1
        with engine_killed(mortal, "kafka"):
            for version in range(2, 12):
                append(connection, shard, 1, version)

    ensure_topics(kafka, TOPICS.values())
    eventually(_drains(relay, store, shard), within=60, what="an empty outbox")

    # It came back empty: what it holds is what was relayed since.
    versions = versions_by_key(received(kafka, shard))["1"]
    assert list(dict.fromkeys(versions)) == list(range(2, 12))


def _drains(relay: Relay, store: PostgresRelayStore, shard: int) -> Callable[[], bool]:
    def drained() -> bool:
        relay.run([shard], remaining)
        return pending(store, shard) == []

    return drained


# How much waits --------------------------------------------------------------------------------------------


def test_the_depth_and_the_age_of_what_waits_are_known_by_shard(
    migrated_database: str, store: PostgresRelayStore, shard: int
) -> None:
    with connect(migrated_database) as connection:
        for version in (1, 2, 3):
            append(connection, shard, 1, version)
        connection.execute(
            "UPDATE messaging.outbox SET occurred_at = now() - interval '1 hour' WHERE shard = %s AND version = 2",
            (shard,),
        )

    backlog = store.backlogs()[shard]

    assert backlog.depth == 3
    assert 3600 <= backlog.age_seconds < 3660
