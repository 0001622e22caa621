from __future__ import annotations

import itertools
import threading
import uuid
from datetime import timedelta

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings
from eventsplatform.operations.migrate import ROLE_SETTINGS, SERVICES, migrate
from tests.support.database import administrator

OWN_TABLE = {
    "messaging": "messaging.outbox",
    "identity": "identity.users",
    "catalog": "catalog.events",
    "registrations": "registrations.event_registrations",
}
OUTBOX_ROW = """
    INSERT INTO messaging.outbox
           (shard, aggregate_type, aggregate_id, version, type, partition_key, payload, traceparent)
    VALUES (0, 'isolation', %s, 1, 'events.created', '0', '{}', '')
"""


def connect(url: str, role: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url, user=role, autocommit=True)


def test_migrating_again_changes_nothing(migrated_database: str) -> None:
    again = migrate(migrated_database)

    assert [schema.schema for schema in again] == list(SERVICES)
    assert all(schema.before == schema.after is not None for schema in again)


def test_deployments_at_the_same_time_wait_for_each_other(migrated_database: str) -> None:
    """A database of its own, so that both have everything to do."""
    with administrator(migrated_database) as connection:
        connection.execute("CREATE DATABASE concurrently_migrated")
    url = migrated_database.rpartition("/")[0] + "/concurrently_migrated"
    results: list[object] = []
    deployments = [threading.Thread(target=lambda: results.append(migrate(url))) for _ in range(3)]

    for deployment in deployments:
        deployment.start()
    for deployment in deployments:
        deployment.join()

    assert len(results) == 3
    assert sorted(sum(schema.before is None for schema in result) for result in results) == [0, 0, len(SERVICES)]  # type: ignore[attr-defined]


def test_accounts_and_refresh_tokens_of_earlier_releases_are_carried_over(migrated_database: str) -> None:
    """Up to `identity_0001`, as a platform was before it knew sessions; then the rest."""
    with administrator(migrated_database) as connection:
        connection.execute("CREATE DATABASE migrated_with_data")
    url = migrated_database.rpartition("/")[0] + "/migrated_with_data"
    migrate(url, revisions={"identity": "identity_0001"})
    family = uuid.uuid4()
    with administrator(url) as connection:
        connection.execute(
            """
            INSERT INTO identity.users (email, password_hash, name, role, permissions)
            VALUES ('ada@example.org', 'x', 'Ada', 'user', '{}')
            """
        )
        connection.execute(
            """
            INSERT INTO identity.refresh_tokens (family_id, user_id, token_hash, expires_at)
            SELECT %s, id, 'x', now() + interval '30 days' FROM identity.users
            """,
            (family,),
        )

    migrate(url)

    with administrator(url) as connection:
        user = connection.execute("SELECT * FROM identity.users").fetchone()
        session = connection.execute("SELECT * FROM identity.sessions").fetchone()
        token = connection.execute("SELECT * FROM identity.refresh_tokens").fetchone()
    assert user is not None
    assert session is not None
    assert token is not None
    assert (user["status"], user["generation"], user["verified_at"]) == ("active", 1, user["created_at"])
    assert (session["id"], session["user_id"], session["ended_at"]) == (family, user["id"], None)
    assert session["expires_at"] - session["created_at"] == timedelta(days=90)
    assert token["session_id"] == family


def test_every_table_belongs_to_the_role_of_its_schema(migrated_database: str) -> None:
    with administrator(migrated_database) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename, tableowner FROM pg_tables WHERE schemaname = ANY(%s)", (list(SERVICES),)
        ).fetchall()

    assert {table["schemaname"] for table in tables} == set(SERVICES)
    assert [table for table in tables if table["tableowner"] != table["schemaname"]] == []


@pytest.mark.parametrize("role", SERVICES)
def test_a_role_reads_and_changes_its_own_schema(migrated_database: str, role: str) -> None:
    with connect(migrated_database, role) as connection:
        connection.execute(f"SELECT FROM {OWN_TABLE[role]}")
        connection.execute(f"CREATE TABLE {role}.scratch (id int)")
        connection.execute(f"DROP TABLE {role}.scratch")


@pytest.mark.parametrize(("role", "other"), list(itertools.permutations(SERVICES, 2)))
def test_a_role_cannot_touch_another_services_tables(migrated_database: str, role: str, other: str) -> None:
    with connect(migrated_database, role) as connection:
        for statement in (
            f"SELECT FROM {OWN_TABLE[other]}",
            f"DELETE FROM {OWN_TABLE[other]}",
            f"CREATE TABLE {other}.scratch (id int)",
            f"DROP TABLE {OWN_TABLE[other]}",
        ):
            with pytest.raises(psycopg.Error) as refused:
                connection.execute(statement)
            assert isinstance(refused.value, InsufficientPrivilege), statement


@pytest.mark.parametrize("role", [role for role in SERVICES if role != "messaging"])
def test_a_service_appends_to_the_outbox_and_can_do_nothing_else_with_it(migrated_database: str, role: str) -> None:
    with connect(migrated_database, role) as connection:
        connection.execute(OUTBOX_ROW, (SERVICES.index(role),))
        for statement in (
            "SELECT FROM messaging.outbox",
            "UPDATE messaging.outbox SET published_at = now()",
            "DELETE FROM messaging.outbox",
            "SELECT FROM messaging.relay_leases",
        ):
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement)


def test_a_role_cannot_become_another_or_make_schemas(migrated_database: str) -> None:
    with connect(migrated_database, "catalog") as connection:
        for statement in (
            "SET ROLE identity",
            "CREATE SCHEMA mine",
            "CREATE TABLE public.mine (id int)",
            "CREATE ROLE another",
        ):
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement)


def test_a_role_that_was_granted_another_services_table_would_be_seen(migrated_database: str) -> None:
    """The control: with the grants that must not exist, what is refused above succeeds."""
    with administrator(migrated_database) as connection, connection.transaction(force_rollback=True):
        connection.execute("GRANT USAGE ON SCHEMA identity TO catalog")
        connection.execute("GRANT SELECT ON identity.users TO catalog")
        connection.execute("SET LOCAL ROLE catalog")
        connection.execute("SELECT FROM identity.users")


def test_every_connection_of_a_service_is_bounded(migrated_database: str) -> None:
    database = Database(DatabaseSettings(migrated_database, "catalog", False))
    try:
        kept = {name: (database.fetch_one(f"SHOW {name}") or {}).popitem()[1] for name in ROLE_SETTINGS}
    finally:
        database.close()

    assert kept == {**ROLE_SETTINGS, "timezone": "UTC"}
