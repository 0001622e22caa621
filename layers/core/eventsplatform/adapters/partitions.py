"""Tables of PostgreSQL that are partitioned by month."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from aws_lambda_powertools.metrics import MetricUnit
from psycopg import sql

from eventsplatform.adapters.postgres import Database
from eventsplatform.observability import emit_metric

# Whatever tables there are that have partitions by month. The system catalogs may be read by any role.
_WITHOUT_NEXT_MONTH = """
    SELECT nspname AS schema, to_char(month, 'YYYY-MM') AS month
      FROM pg_partitioned_table
      JOIN pg_class AS parent ON parent.oid = partrelid
      JOIN pg_namespace ON pg_namespace.oid = parent.relnamespace
     CROSS JOIN (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month' AS month) AS next
     WHERE partstrat = 'r'
       AND NOT EXISTS (
           SELECT
             FROM pg_inherits
             JOIN pg_class AS child ON child.oid = inhrelid
            WHERE inhparent = partrelid AND child.relname = parent.relname || to_char(month, '"_"YYYY_MM'))
     ORDER BY nspname
"""


@dataclass(frozen=True)
class MonthlyTable:
    """A table with a partition for each month, in UTC: `registrations_2026_11`.

    Partitions have the columns, checks and indexes of the table. A key of a partitioned table must contain what it is
    partitioned by; where that says too little, each partition has a `primary_key` of its own. `storage` are its
    storage parameters.
    """

    schema: str
    name: str
    primary_key: Sequence[str] = ()
    storage: Mapping[str, float] = field(default_factory=dict)

    def partition(self, first: date) -> str:
        return f"{self.name}_{first:%Y_%m}"


class PostgresMonths:
    """The months of a table, made by its owner."""

    def __init__(self, database: Database, table: MonthlyTable) -> None:
        self._database = database
        self._table = table

    def has_month(self, first: date) -> bool:
        row = self._database.fetch_one(
            "SELECT to_regclass(%s) IS NOT NULL AS there", (f"{self._table.schema}.{self._table.partition(first)}",)
        )
        assert row is not None
        return bool(row["there"])

    def add_month(self, first: date, following: date) -> None:
        table = self._table
        parent, month = sql.Identifier(table.schema, table.name), sql.Identifier(table.schema, table.partition(first))
        # Attached when it is complete: making it as a partition would lock out everyone who writes to the table.
        with self._database.transaction() as connection:
            connection.execute(
                sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)").format(month, parent)
            )
            if table.primary_key:
                key = sql.SQL(", ").join(map(sql.Identifier, table.primary_key))
                connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(month, key))
            for name, value in table.storage.items():
                connection.execute(
                    sql.SQL("ALTER TABLE {} SET ({} = {})").format(month, sql.Identifier(name), sql.Literal(value))
                )
            connection.execute(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                    parent, month, sql.Literal(f"{first} 00:00:00+00"), sql.Literal(f"{following} 00:00:00+00")
                )
            )

    def report_ahead(self, months: int) -> None:
        emit_metric("partition_months_ahead", months, unit=MetricUnit.NoUnit, schema=self._table.schema)


def without_next_month(database: Database) -> tuple[str, list[str]] | None:
    """The month after this one, `2026-12`, and the schemas in which a table has no partition for it; None if none."""
    rows = database.fetch_all(_WITHOUT_NEXT_MONTH)
    return (rows[0]["month"], [row["schema"] for row in rows]) if rows else None
