"""The SQL of the relay."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from eventsplatform.adapters.partitions import MonthlyTable
from eventsplatform.adapters.postgres import Database
from eventsplatform.messaging.relay import PendingChange

# Each row is written twice, when it is made and when it is marked: half of them are dead before long.
OUTBOX = MonthlyTable(
    "messaging",
    "outbox",
    primary_key=("aggregate_type", "aggregate_id", "version"),
    storage={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 20_000},
)


class PostgresRelayStore:
    """Each method is one statement and so one transaction: nothing is held while messages are sent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire_lease(self, shard: int, holder: uuid.UUID, seconds: int) -> int | None:
        row = self._database.fetch_one(
            """
            INSERT INTO messaging.relay_leases AS lease (shard, holder, fence, expires_at)
            VALUES (%s, %s, 1, now() + make_interval(secs => %s))
            ON CONFLICT (shard) DO UPDATE
               SET holder = excluded.holder, fence = lease.fence + 1, expires_at = excluded.expires_at
             WHERE lease.expires_at < now()
            RETURNING fence
            """,
            (shard, holder, seconds),
        )
        return row["fence"] if row else None

    def renew_lease(self, shard: int, fence: int, seconds: int) -> bool:
        row = self._database.fetch_one(
            """
            UPDATE messaging.relay_leases SET expires_at = now() + make_interval(secs => %s)
             WHERE shard = %s AND fence = %s
            RETURNING fence
            """,
            (seconds, shard, fence),
        )
        return row is not None

    def release_lease(self, shard: int, fence: int) -> None:
        self._database.fetch_one(
            """
            UPDATE messaging.relay_leases SET expires_at = '-infinity'
             WHERE shard = %s AND fence = %s
            RETURNING fence
            """,
            (shard, fence),
        )

    def pending(self, shard: int, limit: int) -> list[PendingChange]:
        rows = self._database.fetch_all(
            """
            SELECT id, aggregate_type, aggregate_id, version, type, partition_key, payload, traceparent, occurred_at
              FROM messaging.outbox
             WHERE shard = %s AND published_at IS NULL
             ORDER BY id
             LIMIT %s
            """,
            (shard, limit),
        )
        return [PendingChange(**row) for row in rows]

    def mark_published(self, shard: int, fence: int, ids: Sequence[int]) -> bool:
        row = self._database.fetch_one(
            """
            WITH lease AS (
                SELECT fence FROM messaging.relay_leases WHERE shard = %s AND fence = %s FOR UPDATE
            ), marked AS (
                UPDATE messaging.outbox SET published_at = now()
                 WHERE shard = %s AND published_at IS NULL AND id = ANY(%s) AND EXISTS (SELECT FROM lease)
            )
            SELECT fence FROM lease
            """,
            (shard, fence, shard, list(ids)),
        )
        return row is not None

    def pending_count(self) -> int:
        row = self._database.fetch_one("SELECT count(*) AS pending FROM messaging.outbox WHERE published_at IS NULL")
        assert row is not None
        return int(row["pending"])
