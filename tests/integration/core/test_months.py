"""Tables that are stored by month: the months are made ahead, and those made are like those migrated."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from psycopg.errors import CheckViolation, UniqueViolation

from eventsplatform.adapters.partitions import MonthlyTable, PostgresMonths
from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings
from eventsplatform.messaging.repository import OUTBOX
from eventsplatform.months import Months, following_month
from eventsplatform.operations.migrate import migrate
from eventsplatform.registrations.wiring import REGISTRATIONS
from tests.support.database import administrator, database_beside

TABLES = pytest.mark.parametrize("table", [OUTBOX, REGISTRATIONS], ids=lambda table: table.name)


@pytest.fixture
def database(migrated_database: str, table: MonthlyTable) -> Iterator[Database]:
    """As the service's own role."""
    connected = Database(DatabaseSettings(migrated_database, table.schema, False))
    yield connected
    connected.close()


def months_of(database: Database, table: MonthlyTable, now: datetime) -> Months:
    return Months(PostgresMonths(database, table), lambda: now)


@TABLES
def test_months_are_made_ahead_by_the_services_own_role_and_once(
    database: Database, table: MonthlyTable, capsys: pytest.CaptureFixture[str]
) -> None:
    months = months_of(database, table, datetime(2031, 11, 30, 23, 59, tzinfo=UTC))

    assert months.make_ahead() == [date(2031, 11, 1), date(2031, 12, 1), date(2032, 1, 1)]
    assert months.make_ahead() == []
    assert capsys.readouterr().out.count('"partition_months_ahead":[2.0]') == 2


@TABLES
def test_a_month_made_ahead_has_all_that_the_others_have(
    database: Database, table: MonthlyTable, migrated_database: str
) -> None:
    months_of(database, table, datetime(2033, 5, 1, tzinfo=UTC)).make_ahead()
    described = """
        SELECT regexp_replace(pg_get_indexdef(indexrelid), 'INDEX .* ON [^ ]+', 'INDEX') AS definition
          FROM pg_index
         WHERE indrelid = %(table)s::regclass
         UNION ALL
        SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %(table)s::regclass
         UNION ALL
        SELECT attname || ' ' || attidentity::text FROM pg_attribute WHERE attrelid = %(table)s::regclass AND attnum > 0
         UNION ALL
        SELECT unnest(reloptions) FROM pg_class WHERE oid = %(table)s::regclass
         ORDER BY 1
    """

    this_month = datetime.now(UTC).date().replace(day=1)
    with administrator(migrated_database) as connection:
        made, carried_over, migrated = (
            connection.execute(described, {"table": f"{table.schema}.{table.partition(first)}"}).fetchall()
            for first in (date(2033, 5, 1), this_month, following_month(this_month))
        )

    assert made
    assert made == migrated == carried_over


def test_the_month_after_any_month() -> None:
    assert following_month(date(2027, 1, 1)) == date(2027, 2, 1)
    assert following_month(date(2027, 12, 1)) == date(2028, 1, 1)


# The outbox ----------------------------------------------------------------------------------------------


def test_the_outbox_of_earlier_releases_is_carried_over_with_what_is_pending_and_its_order(
    migrated_database: str,
) -> None:
    """Up to `messaging_0004`, as a platform was that kept the outbox in one table; then the rest."""
    url = database_beside(migrated_database, "outbox_carried_over")
    migrate(url, revisions={"messaging": "messaging_0004"})
    with administrator(url) as connection:
        last_year = datetime.now(UTC) - timedelta(days=400)
        relayed = append(connection, version=1, occurred_at=last_year, published_at=last_year)
        pending = append(connection, version=2)

    migrate(url)

    with administrator(url) as connection:
        append(connection, version=3)
        kept = connection.execute("SELECT id, version, published_at FROM messaging.outbox ORDER BY id").fetchall()
        with pytest.raises(UniqueViolation):
            append(connection, version=2)
    assert [row["version"] for row in kept] == [1, 2, 3]
    assert [row["id"] for row in kept[:2]] == [relayed, pending]
    assert [row["published_at"] is not None for row in kept] == [True, False, False]


def test_a_change_whose_month_is_missing_is_refused(migrated_database: str) -> None:
    """What the months made ahead, the check and the alarm are there to prevent."""
    with administrator(migrated_database) as connection, pytest.raises(CheckViolation, match="no partition"):
        append(connection, version=1, occurred_at=datetime(2100, 1, 1, tzinfo=UTC))


def append(connection: Any, **columns: Any) -> int:
    values = {"occurred_at": datetime.now(UTC), "published_at": None, **columns}
    row = connection.execute(
        """
        INSERT INTO messaging.outbox (shard, aggregate_type, aggregate_id, version, type, partition_key, payload,
                                      traceparent, occurred_at, published_at)
        VALUES (1, 'months', 1, %(version)s, 'events.updated', '1', '{}', '', %(occurred_at)s, %(published_at)s)
        RETURNING id
        """,
        values,
    ).fetchone()
    return int(row["id"])
