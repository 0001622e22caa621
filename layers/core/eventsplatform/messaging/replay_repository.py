"""The SQL of replays."""

from __future__ import annotations

from datetime import datetime

from eventsplatform.adapters.postgres import Database, Row
from eventsplatform.messaging.relay import PendingChange
from eventsplatform.messaging.replay import Aggregate

_CHANGES = """
    SELECT id, shard, aggregate_type, aggregate_id, version, type, partition_key, payload, traceparent, occurred_at
      FROM messaging.outbox
"""


class PostgresEventStore:
    """Each method is one statement and so one transaction: nothing is held while messages are sent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ids_between(self, since: datetime, until: datetime) -> tuple[int, int] | None:
        row = self._database.fetch_one(
            """
            SELECT min(id) AS first, max(id) AS last
              FROM messaging.outbox
             WHERE occurred_at >= %s AND occurred_at < %s
            """,
            (since, until),
        )
        return None if row is None or row["first"] is None else (row["first"], row["last"])

    def published_between(
        self, domain: str, first: int, last: int, since: datetime, until: datetime, limit: int
    ) -> list[PendingChange]:
        rows = self._database.fetch_all(
            _CHANGES
            + """
             WHERE id BETWEEN %(first)s AND %(last)s AND occurred_at >= %(since)s AND occurred_at < %(until)s
               AND starts_with(type, %(domain)s) AND published_at IS NOT NULL
             ORDER BY id
             LIMIT %(limit)s
            """,
            {
                "first": first,
                "last": last,
                "since": since,
                "until": until,
                "domain": f"{domain}.",
                "limit": limit,
            },
        )
        return _changes(rows)

    def published_of(self, aggregate: Aggregate, after_version: int, limit: int) -> list[PendingChange]:
        rows = self._database.fetch_all(
            _CHANGES
            + """
             WHERE aggregate_type = %s AND aggregate_id = %s AND version > %s AND published_at IS NOT NULL
             ORDER BY version
             LIMIT %s
            """,
            (aggregate.type, aggregate.id, after_version, limit),
        )
        return _changes(rows)


def _changes(rows: list[Row]) -> list[PendingChange]:
    return [PendingChange(**row) for row in rows]
