"""The SQL of the relay."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence

from eventsplatform.adapters.partitions import MonthlyTable
from eventsplatform.adapters.postgres import Database, Row
from eventsplatform.messaging.backlog import Backlog
from eventsplatform.messaging.relay import Leases, PendingChange

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

    def acquire_leases(self, shards: Collection[int], holder: uuid.UUID, seconds: int) -> Leases:
        # A lease that is held is not even locked: most who ask find them all taken.
        rows = self._database.fetch_all(
            """
            INSERT INTO messaging.relay_leases AS lease (shard, holder, fence, expires_at)
            SELECT shard, %s, 1, now() + make_interval(secs => %s)
              FROM unnest(%s::smallint[]) AS wanted (shard)
             WHERE NOT EXISTS (SELECT FROM messaging.relay_leases AS taken
                                WHERE taken.shard = wanted.shard AND taken.expires_at >= now())
             ORDER BY shard
            ON CONFLICT (shard) DO UPDATE
               SET holder = excluded.holder, fence = lease.fence + 1, expires_at = excluded.expires_at
             WHERE lease.expires_at < now()
            RETURNING shard, fence
            """,
            (holder, seconds, list(shards)),
        )
        return _leases(rows)

    def renew_leases(self, leases: Leases, seconds: int) -> Leases:
        rows = self._database.fetch_all(
            """
            UPDATE messaging.relay_leases AS lease SET expires_at = now() + make_interval(secs => %s)
              FROM unnest(%s::smallint[], %s::bigint[]) AS held (shard, fence)
             WHERE lease.shard = held.shard AND lease.fence = held.fence
            RETURNING lease.shard, lease.fence
            """,
            (seconds, list(leases), list(leases.values())),
        )
        return _leases(rows)

    def release_leases(self, leases: Leases) -> None:
        if leases:
            self._database.fetch_all(
                """
                UPDATE messaging.relay_leases AS lease SET expires_at = '-infinity'
                  FROM unnest(%s::smallint[], %s::bigint[]) AS held (shard, fence)
                 WHERE lease.shard = held.shard AND lease.fence = held.fence
                RETURNING lease.shard
                """,
                (list(leases), list(leases.values())),
            )

    def pending(self, shards: Collection[int], limit: int) -> list[PendingChange]:
        rows = self._database.fetch_all(
            """
            SELECT change.*
              FROM unnest(%s::smallint[]) AS held (shard)
             CROSS JOIN LATERAL (
                   SELECT id, shard, aggregate_type, aggregate_id, version, type, partition_key, payload, traceparent,
                          occurred_at
                     FROM messaging.outbox
                    WHERE outbox.shard = held.shard AND published_at IS NULL
                    ORDER BY id
                    LIMIT %s) AS change
            """,
            (list(shards), limit),
        )
        return [PendingChange(**row) for row in rows]

    def mark_published(self, leases: Leases, changes: Sequence[PendingChange], seconds: int) -> Leases:
        rows = self._database.fetch_all(
            """
            WITH kept AS (
                UPDATE messaging.relay_leases AS lease SET expires_at = now() + make_interval(secs => %s)
                  FROM unnest(%s::smallint[], %s::bigint[]) AS held (shard, fence)
                 WHERE lease.shard = held.shard AND lease.fence = held.fence
                RETURNING lease.shard, lease.fence
            ), marked AS (
                UPDATE messaging.outbox SET published_at = now()
                  FROM unnest(%s::smallint[], %s::bigint[], %s::timestamptz[]) AS sent (shard, id, occurred_at)
                  JOIN kept USING (shard)
                 WHERE outbox.shard = sent.shard AND outbox.id = sent.id AND outbox.occurred_at = sent.occurred_at
                   AND published_at IS NULL
            )
            SELECT shard, fence FROM kept
            """,
            (
                seconds,
                list(leases),
                list(leases.values()),
                [change.shard for change in changes],
                [change.id for change in changes],
                [change.occurred_at for change in changes],
            ),
        )
        return _leases(rows)

    def backlogs(self) -> dict[int, Backlog]:
        rows = self._database.fetch_all(
            """
            SELECT shard, count(*) AS depth, extract(epoch FROM now() - min(occurred_at))::float AS age_seconds
              FROM messaging.outbox
             WHERE published_at IS NULL
             GROUP BY shard
            """
        )
        return {row["shard"]: Backlog(row["depth"], max(0.0, row["age_seconds"])) for row in rows}


def _leases(rows: Sequence[Row]) -> Leases:
    return {row["shard"]: row["fence"] for row in rows}
