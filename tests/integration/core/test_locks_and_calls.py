"""No lock is held across a call: what leaves the process while a transaction is open is refused, everywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from eventsplatform.adapters.aws import FunctionClient, client
from eventsplatform.adapters.kafka import KafkaProducer
from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.adapters.outbound import Outbound
from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings, KafkaSettings, NatsSettings
from tests.support.callers import caller
from tests.support.database import services

REFUSAL = "called in a transaction"


@pytest.fixture
def database(migrated_database: str) -> Iterator[Database]:
    database = Database(DatabaseSettings(migrated_database, "catalog", False))
    yield database
    database.close()


def call_nats() -> None:
    coroutine = asyncio.sleep(0)
    try:
        NatsConnection(NatsSettings("nats://127.0.0.1:1", "")).run(coroutine, timeout_seconds=1)
    finally:
        coroutine.close()


CALLS: dict[str, Callable[[], object]] = {
    "a function": lambda: FunctionClient().invoke("other", {}),
    "a secret": lambda: client("secretsmanager").get_secret_value(SecretId="keys"),
    "Kafka": lambda: KafkaProducer(KafkaSettings("127.0.0.1:1", False)).send([]),
    "NATS": call_nats,
    "an address of a user's": lambda: Outbound().post("https://example.org/", b"", {}),
}


@pytest.mark.parametrize("called", CALLS)
def test_what_leaves_the_process_is_refused_while_a_transaction_is_open(
    database: Database, monkeypatch: pytest.MonkeyPatch, called: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")

    with pytest.raises(RuntimeError, match=REFUSAL), database.transaction():
        CALLS[called]()


def test_another_services_database_is_out_of_reach_while_a_transaction_is_open(
    database: Database, migrated_database: str
) -> None:
    other = Database(DatabaseSettings(migrated_database, "registrations", False))

    with pytest.raises(RuntimeError, match=REFUSAL), database.transaction():
        other.ping()


def test_the_statements_of_the_transaction_itself_are_no_calls(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("SELECT 1")
        assert database.fetch_one("SELECT 2 AS two") == {"two": 2}


def test_another_threads_calls_are_its_own_business(database: Database, migrated_database: str) -> None:
    other = Database(DatabaseSettings(migrated_database, "registrations", False))
    answered = []

    def ask() -> None:
        other.ping()
        answered.append(True)

    with database.transaction() as connection:
        connection.execute("SELECT 1")
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(10)
    assert answered == [True]
    other.close()


def test_after_the_commit_and_after_a_rollback_calls_are_free(database: Database, migrated_database: str) -> None:
    other = Database(DatabaseSettings(migrated_database, "registrations", False))
    with database.transaction() as connection:
        connection.execute("SELECT 1")
    other.ping()
    with pytest.raises(ZeroDivisionError), database.transaction():
        raise ZeroDivisionError
    other.ping()
    other.close()


def test_a_use_case_that_asked_the_owner_while_it_held_a_lock_would_be_seen(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: all the other tests of use cases would have broken like this one."""
    from eventsplatform.registrations.service import Registrations

    def registering(self: Registrations, event_id: int, user_id: int) -> None:
        with self._work() as (store, _):
            store.lock_line(event_id)
            self._events.describe(event_id)

    with services(migrated_database) as running:
        event_id = running.published_event(8_001)
        monkeypatch.setattr(Registrations, "_register", registering)
        with pytest.raises(RuntimeError, match=REFUSAL):
            running.registrations.register(event_id, caller(8_002))
