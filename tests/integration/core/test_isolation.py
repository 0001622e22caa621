"""Each service's database role reaches its own schema only, and none changes the audit log.

Every table that exists is walked, so that a new one cannot be forgotten here.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege, NotNullViolation, RaiseException

from eventsplatform.operations.migrate import SERVICES
from tests.support.database import administrator
from tests.support.people import rows

Table = tuple[str, str]

# What services may do in another's schema.
APPENDABLE = {("messaging", "outbox"), ("messaging", "audit_log")}

STATEMENTS = {
    "SELECT": "SELECT FROM {table} LIMIT 0",
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "UPDATE {table} SET {column} = {column} WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
    "TRUNCATE": "TRUNCATE {table} CASCADE",
}
CHANGES_OF_HISTORY = ("UPDATE", "DELETE", "TRUNCATE")


@pytest.fixture(scope="module")
def columns(migrated_database: str) -> dict[Table, str]:
    """Every table of the services, with a column of each."""
    found = rows(
        migrated_database,
        """
        SELECT table_schema, table_name, min(column_name) AS column_name
          FROM information_schema.columns
          JOIN information_schema.tables USING (table_schema, table_name)
         WHERE table_schema = ANY(%s) AND table_type = 'BASE TABLE' AND is_generated = 'NEVER' AND is_identity = 'NO'
         GROUP BY table_schema, table_name
        """,
        list(SERVICES),
    )
    return {(row["table_schema"], row["table_name"]): row["column_name"] for row in found}


def statement(kind: str, table: Table, column: str) -> sql.Composed:
    return sql.SQL(STATEMENTS[kind]).format(table=sql.Identifier(*table), column=sql.Identifier(column))


def allowed(connection: psycopg.Connection[object], columns: dict[Table, str]) -> Iterator[tuple[str, Table]]:
    """The kinds of statements that the connection's role may make, and where. Nothing stays of them."""
    for table, column in columns.items():
        for kind in STATEMENTS:
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(statement(kind, table, column))
            except InsufficientPrivilege:
                continue
            except NotNullViolation:
                pass  # it may insert: something sensible
            except RaiseException:
                continue  # the audit log's own guard
            yield kind, table


@pytest.mark.parametrize("role", SERVICES)
def test_a_role_reaches_no_table_of_another_schema(
    migrated_database: str, columns: dict[Table, str], role: str
) -> None:
    foreign = {table: column for table, column in columns.items() if table[0] != role}

    with psycopg.connect(migrated_database, user=role, autocommit=True) as connection:
        reached = set(allowed(connection, foreign))

    assert reached == {("INSERT", table) for table in APPENDABLE if table[0] != role}
    assert len(foreign) >= 6


@pytest.mark.parametrize("role", SERVICES)
def test_a_role_reaches_its_own_tables(migrated_database: str, columns: dict[Table, str], role: str) -> None:
    """The control: what is refused above is no mistake in the statements."""
    own = {table: column for table, column in columns.items() if table[0] == role and table[1] != "audit_log"}

    with psycopg.connect(migrated_database, user=role, autocommit=True) as connection:
        reached = {kind for kind, _ in allowed(connection, own)}

    assert reached == set(STATEMENTS)


def test_a_grant_that_should_not_be_is_seen(migrated_database: str, columns: dict[Table, str]) -> None:
    """The control: one privilege too many on one table."""
    with administrator(migrated_database) as connection, connection.transaction(force_rollback=True):
        connection.execute("GRANT USAGE ON SCHEMA identity TO catalog")
        connection.execute("GRANT SELECT ON identity.token_blacklist TO catalog")
        connection.execute("SET LOCAL ROLE catalog")
        seen = set(allowed(connection, {table: column for table, column in columns.items() if table[0] == "identity"}))

    assert seen == {("SELECT", ("identity", "token_blacklist"))}


# The audit log ----------------------------------------------------------------------------------


@pytest.fixture
def record(migrated_database: str) -> int:
    (row,) = rows(
        migrated_database,
        """
        INSERT INTO messaging.audit_log (action, subject_type, subject_id, actor_id, traceparent)
        VALUES ('user.suspended', 'user', 1, 2, '') RETURNING id
        """,
    )
    return int(row["id"])


@pytest.mark.parametrize("kind", CHANGES_OF_HISTORY)
@pytest.mark.parametrize("role", SERVICES)
def test_no_service_changes_what_the_audit_log_says(migrated_database: str, record: int, role: str, kind: str) -> None:
    with (
        psycopg.connect(migrated_database, user=role, autocommit=True) as connection,
        pytest.raises((InsufficientPrivilege, RaiseException)),
    ):
        connection.execute(statement(kind, ("messaging", "audit_log"), "action"))

    (left,) = rows(migrated_database, "SELECT action, actor_id FROM messaging.audit_log WHERE id = %s", record)
    assert left == {"action": "user.suspended", "actor_id": 2}


@pytest.mark.parametrize("role", [role for role in SERVICES if role != "messaging"])
def test_a_service_adds_to_the_audit_log_and_cannot_read_it(migrated_database: str, role: str) -> None:
    with psycopg.connect(migrated_database, user=role, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO messaging.audit_log (action, subject_type, subject_id, traceparent)
            VALUES ('test', 'user', 1, '')
            """
        )
        with pytest.raises(InsufficientPrivilege):
            connection.execute("SELECT FROM messaging.audit_log")


@pytest.mark.parametrize("kind", CHANGES_OF_HISTORY)
def test_without_its_guard_the_owner_of_the_audit_log_could_change_it(
    migrated_database: str, record: int, kind: str
) -> None:
    """The control: it is the trigger that refuses the role to which the table belongs."""
    with administrator(migrated_database) as connection, connection.transaction(force_rollback=True):
        connection.execute("ALTER TABLE messaging.audit_log DISABLE TRIGGER audit_log_is_final")
        connection.execute("SET LOCAL ROLE messaging")
        connection.execute(statement(kind, ("messaging", "audit_log"), "action"))
