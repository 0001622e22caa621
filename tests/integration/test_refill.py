"""What is sent again to a broker that lost its memory: all that may not have been read, and nothing else."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings
from eventsplatform.messaging.repository import PostgresRelayStore
from eventsplatform.operations.migrate import migrate
from local.refill import Refill
from local.triggers import ensure_topics
from local.triggers.kafka import Assignment
from tests.support.database import administrator
from tests.support.engines import RunningEngines, engines_running
from tests.support.polling import eventually

TOPIC = "evp.events.v1"
SHARD = 3


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngines]:
    """Engines of this module's own, for the broker is killed."""
    with engines_running(tmp_path_factory.mktemp("refill"), only=frozenset({"postgres", "kafka"})) as engines:
        migrate(engines.endpoints.postgres)
        yield engines


class Case:
    """An outbox with one change that the broker has, and a reader of the partition in which it is."""

    def __init__(self, running: RunningEngines, state: Path) -> None:
        self.running = running
        self.topic = f"{TOPIC}.{state.name}"
        self.assignment = Assignment((self.topic, 0), deque())
        self.position: int | None = None
        self.refill = Refill(
            running.endpoints.postgres,
            running.endpoints.kafka,
            state,
            positions=lambda: {"reader": {self.assignment: self.position}},
            relay=lambda: None,
            stop=self._stop,
            broker=lambda: running.statuses()["kafka"].pid,
        )
        self.stopped_with_pending: list[int] = []
        ensure_topics(running.endpoints.kafka, [self.topic], partitions=1)
        with administrator(running.endpoints.postgres) as connection:
            connection.execute("TRUNCATE messaging.outbox")
            connection.execute("TRUNCATE messaging.bridge_leases")

    def publish(self, *versions: int) -> None:
        """Have the broker acknowledge changes, in one batch, and mark them as a relay does."""
        producer = Producer({"bootstrap.servers": self.running.endpoints.kafka, "linger.ms": 50})
        for version in versions:
            producer.produce(self.topic, str(version).encode(), partition=0)
        assert producer.flush(10) == 0
        with administrator(self.running.endpoints.postgres) as connection:
            for version in versions:
                connection.execute(
                    """
                    INSERT INTO messaging.outbox (shard, aggregate_type, aggregate_id, version, type, partition_key,
                                                  payload, traceparent, published_at)
                    VALUES (%s, 'event', 1, %s, 'events.updated', '1', '{}', '', now())
                    """,
                    (SHARD, version),
                )

    def bridged(self, sequence: int) -> None:
        """Have the bridge from NATS come so far."""
        with administrator(self.running.endpoints.postgres) as connection:
            connection.execute(
                """
                INSERT INTO messaging.bridge_leases (shard, holder, fence, expires_at, sequence)
                VALUES ('inbound', gen_random_uuid(), 1, 'infinity', %(sequence)s)
                ON CONFLICT (shard) DO UPDATE SET fence = bridge_leases.fence + 1, sequence = %(sequence)s
                """,
                {"sequence": sequence},
            )

    def bridge(self) -> dict[str, int]:
        with administrator(self.running.endpoints.postgres) as connection:
            (row,) = connection.execute("SELECT fence, sequence FROM messaging.bridge_leases").fetchall()
        return row

    def read_up_to(self, offset: int, *, end: int) -> None:
        self.position, self.assignment.high_watermark = offset, end

    def settle(self) -> None:
        asyncio.run(self.refill.settle())

    def set_back(self) -> int:
        return asyncio.run(self.refill.set_back())

    def pending(self) -> int:
        with administrator(self.running.endpoints.postgres) as connection:
            rows = connection.execute("SELECT FROM messaging.outbox WHERE published_at IS NULL").fetchall()
        return len(rows)

    async def _stop(self) -> None:
        self.stopped_with_pending.append(self.pending())


@pytest.fixture
def case(running: RunningEngines, tmp_path: Path) -> Case:
    return Case(running, tmp_path)


def test_what_has_been_read_is_not_sent_again(case: Case) -> None:
    case.publish(1, 2, 3)
    case.read_up_to(3, end=3)

    case.settle()

    assert case.set_back() == 0


def test_what_nobody_has_read_is_sent_again(case: Case) -> None:
    case.publish(1, 2, 3)
    case.read_up_to(3, end=3)
    case.settle()
    case.publish(4)

    case.settle()

    assert case.set_back() == 1


def test_what_came_in_over_nats_is_brought_again_from_where_nobody_has_read(case: Case) -> None:
    case.bridged(5)
    case.publish(1)
    case.read_up_to(1, end=1)
    case.settle()
    case.bridged(9)
    case.publish(2)

    case.settle()

    assert case.set_back() == 1 + 4
    assert case.bridge()["sequence"] == 5
    assert case.bridge()["fence"] > 2, "whoever holds the lease has lost it"


def test_without_a_watermark_all_that_came_in_is_brought_again(case: Case) -> None:
    case.bridged(9)

    assert case.set_back() == 9


def test_a_batch_that_has_been_read_in_part_is_sent_again(case: Case) -> None:
    """Asked for the end, the broker tells one that lies within the batch."""
    case.publish(1, 2, 3)
    case.read_up_to(1, end=3)

    case.settle()

    assert case.set_back() == 3


def test_without_a_reader_nothing_counts_as_read(case: Case) -> None:
    case.publish(1)
    case.read_up_to(1, end=1)
    case.assignment.live = False

    case.settle()

    assert case.set_back() == 1


def test_who_stands_at_the_end_of_an_empty_broker_has_not_read_what_the_last_one_had(case: Case) -> None:
    # Given a change that only the broker has, which dies
    case.publish(1)
    restarts = case.running.statuses()["kafka"].restarts
    case.running.kill("kafka")
    assert case.set_back() == 1
    eventually(lambda: case.running.statuses()["kafka"].restarts > restarts, what="another broker")
    ensure_topics(case.running.endpoints.kafka, [case.topic], partitions=1)

    # When the reader has joined the next one, in which nothing is yet
    case.assignment = Assignment((case.topic, 0), deque())
    case.assignment.high_watermark = 0
    case.settle()

    # Then the change is still to be sent, whatever becomes of the next one
    assert case.set_back() == 0
    assert case.pending() == 1


def test_who_has_later_changes_in_hand_is_stopped_when_all_others_begin_with_the_earlier_ones(case: Case) -> None:
    case.publish(1, 2)

    case.set_back()

    assert case.stopped_with_pending == [2]


def test_a_relay_at_work_does_not_mark_what_the_last_broker_acknowledged(case: Case) -> None:
    # Given a relay that has sent a change and not yet marked it
    database = Database(DatabaseSettings(case.running.endpoints.postgres, "messaging", False))
    store = PostgresRelayStore(database)
    case.publish(1)
    assert case.set_back() == 1
    leases = store.acquire_leases([SHARD], uuid.uuid4(), 30)
    assert leases
    (change,) = store.pending([SHARD], 10)

    # When there is another broker before it does
    case.set_back()

    # Then the change stays pending, for the next relay, which need not wait
    assert store.mark_published(leases, [change], 30) == {}
    assert store.acquire_leases([SHARD], uuid.uuid4(), 30)
    assert store.pending([SHARD], 10) == [change]
    database.close()
