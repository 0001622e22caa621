from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings
from eventsplatform.deadline import ANSWERING_SECONDS, ending_in
from eventsplatform.errors import ConflictError, DependencyUnavailableError
from eventsplatform.observability import RedactingFormatter
from eventsplatform.operations.migrate import migrate
from local.engines.ports import choose_ports
from tests.support.database import administrator
from tests.support.engines import RunningEngines, engines_running
from tests.support.killing import engine_killed
from tests.support.polling import eventually
from tests.support.round_trips import counting_proxy


@pytest.fixture
def database(migrated_database: str) -> Iterator[Database]:
    opened = Database(DatabaseSettings(migrated_database, "catalog", False))
    yield opened
    opened.close()


def backend_of(database: Database) -> int:
    row = database.fetch_one("SELECT pg_backend_pid() AS pid")
    assert row is not None
    return int(row["pid"])


def terminate(url: str, pid: int) -> None:
    with administrator(url) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def test_a_transaction_commits_on_leaving_and_rolls_back_on_an_exception(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("CREATE TABLE catalog.notes (id int PRIMARY KEY)")
        connection.execute("INSERT INTO catalog.notes VALUES (1)")

    def change_mind() -> None:
        with database.transaction() as connection:
            connection.execute("INSERT INTO catalog.notes VALUES (2)")
            raise ConflictError("no")

    try:
        with pytest.raises(ConflictError):
            change_mind()

        assert database.fetch_all("SELECT id FROM catalog.notes") == [{"id": 1}]
    finally:
        _drop(database)


def _drop(database: Database) -> None:
    with database.autocommit() as connection:
        connection.execute("DROP TABLE catalog.notes")


def test_a_statement_that_fails_unfetched_rolls_everything_back(database: Database) -> None:
    """In a pipeline its error shows only on leaving: nothing may have been committed by then."""
    with database.autocommit() as connection:
        connection.execute("CREATE TABLE catalog.notes (id int PRIMARY KEY)")

    def insert(*ids: int) -> None:
        with database.transaction() as connection:
            for note in ids:
                connection.execute("INSERT INTO catalog.notes VALUES (%s)", (note,))

    try:
        with pytest.raises(psycopg.errors.UniqueViolation):
            insert(1, 1)

        assert database.fetch_all("SELECT id FROM catalog.notes") == []
        insert(1)
        assert database.fetch_all("SELECT id FROM catalog.notes") == [{"id": 1}]
    finally:
        _drop(database)


def test_a_request_that_had_not_begun_is_not_lost_with_the_connection(
    database: Database, migrated_database: str
) -> None:
    first = backend_of(database)
    terminate(migrated_database, first)

    assert backend_of(database) != first


def test_a_transaction_that_had_not_begun_is_not_lost_with_the_connection(
    database: Database, migrated_database: str
) -> None:
    first = backend_of(database)
    terminate(migrated_database, first)

    with database.transaction() as connection:
        row = connection.execute("SELECT pg_backend_pid() AS pid").fetchone()

    assert row is not None
    assert row["pid"] != first


def test_a_connection_that_the_network_dropped_is_replaced(migrated_database: str) -> None:
    with counting_proxy(migrated_database) as (proxy, url):
        database = Database(DatabaseSettings(url, "catalog", False))
        database.ping()
        proxy.drop_connections()

        eventually(lambda: database.fetch_one("SELECT 1 AS ok"), what="an answer over a new connection")
        database.close()


def test_a_transaction_that_breaks_in_the_middle_is_unavailable_and_the_next_one_works(
    database: Database, migrated_database: str
) -> None:
    def break_in_the_middle() -> None:
        with database.transaction() as connection:
            row = connection.execute("SELECT pg_backend_pid() AS pid").fetchone()
            assert row is not None
            terminate(migrated_database, row["pid"])
            connection.execute("SELECT 1").fetchone()

    with pytest.raises(DependencyUnavailableError):
        break_in_the_middle()

    database.ping()


def test_a_statement_that_waits_too_long_for_a_lock_is_unavailable(database: Database, migrated_database: str) -> None:
    with administrator(migrated_database) as holder, holder.transaction():
        holder.execute("LOCK TABLE catalog.categories IN ACCESS EXCLUSIVE MODE")
        with database.autocommit() as connection:
            connection.execute("SET lock_timeout = '50ms'")

        with pytest.raises(DependencyUnavailableError):
            database.fetch_all("SELECT slug FROM catalog.categories")

    assert database.fetch_all("SELECT slug FROM catalog.categories")


def test_a_statement_is_waited_for_no_longer_than_the_invocation_lasts(database: Database) -> None:
    database.ping()

    began = time.monotonic()
    with ending_in((ANSWERING_SECONDS + 0.2) * 1000), pytest.raises(DependencyUnavailableError):
        database.fetch_one("SELECT pg_sleep(3)")

    assert time.monotonic() - began < 2
    database.ping()


def test_nobody_connects_without_the_time_to(database: Database) -> None:
    with ending_in((ANSWERING_SECONDS + 1.9) * 1000), pytest.raises(DependencyUnavailableError):
        database.ping()


def test_an_error_of_the_statement_itself_is_not_taken_for_an_outage(database: Database) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        database.fetch_all("SELECT FROM catalog.nothing")

    database.ping()


@pytest.mark.parametrize(
    ("statement", "stays"),
    [
        ("SELECT %s::integer", "invalid input syntax for type integer"),
        ("SELECT %s::timestamptz", "invalid input syntax for type timestamp with time zone"),
        ("INSERT INTO people SELECT value, value FROM unnest(ARRAY[%s, %s]) value", "people_pkey"),
        ("INSERT INTO people (name, id) VALUES (%s, NULL)", "violates not-null constraint"),
        ("INSERT INTO people VALUES ('x', %s || repeat('.', 100))", "value too long"),
    ],
    ids=["number", "time", "duplicate", "row", "length"],
)
def test_what_an_error_quotes_of_the_data_is_not_logged(statement: str, stays: str, migrated_database: str) -> None:
    # Given a log as Python has it by itself, which is the negative control, and ours beside it
    log, plain, ours = logging.Logger("database"), io.StringIO(), io.StringIO()
    log.addHandler(logging.StreamHandler(plain))
    log.addHandler(redacting := logging.StreamHandler(ours))
    redacting.setFormatter(RedactingFormatter())
    secret = "swordfish\n\nand line 3"

    # When an error that quotes a value is logged, as a cause and as a text
    with administrator(migrated_database) as connection:
        connection.execute("CREATE TEMPORARY TABLE people (id text PRIMARY KEY, name varchar(50))")
        try:
            connection.execute(statement, [secret] * statement.count("%s"))
        except psycopg.Error as error:
            try:
                raise RuntimeError("could not store") from error
            except RuntimeError as failure:
                log.exception("failed", extra={"error": failure.__cause__})

    # Then the value is in the one and not in the other, which says what happened all the same
    assert ("swordfish" in plain.getvalue()) == (stays != "value too long")
    assert "swordfish" not in ours.getvalue()
    assert "and line 3" not in ours.getvalue()
    assert ours.getvalue().count(stays) == 2


def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    port = choose_ports(["nobody"], tmp_path / "ports.json")["nobody"]
    database = Database(DatabaseSettings(f"postgresql://127.0.0.1:{port}/events_platform", "catalog", False))

    with pytest.raises(DependencyUnavailableError):
        database.ping()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngines]:
    """A Postgres that these tests may kill."""
    with engines_running(tmp_path_factory.mktemp("mortal"), only=frozenset({"postgres"})) as running:
        migrate(running.endpoints.postgres)
        yield running


def test_a_killed_server_is_unavailable_and_works_again_when_it_is_back(mortal: RunningEngines) -> None:
    database = Database(DatabaseSettings(mortal.endpoints.postgres, "catalog", False))
    database.ping()
    outcomes: list[bool] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                database.ping()
                outcomes.append(True)
            except DependencyUnavailableError:
                outcomes.append(False)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with engine_killed(mortal, "postgres"):
            eventually(lambda: False in outcomes and outcomes[-1], within=60, what="down and up again")
    finally:
        stop.set()
        asking.join()
        database.close()
