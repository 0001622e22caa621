"""The SQL of the bridge from NATS."""

from __future__ import annotations

import uuid

from eventsplatform.adapters.postgres import Database
from eventsplatform.messaging.bridge_from_nats import Lease, Position


class PostgresLeaseStore:
    """Each method is one statement and so one transaction: nothing is held while messages are produced."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, shard: str, holder: uuid.UUID, seconds: int) -> Lease | None:
        row = self._database.fetch_one(
            """
            INSERT INTO messaging.bridge_leases AS lease (shard, holder, fence, expires_at)
            VALUES (%s, %s, 1, now() + make_interval(secs => %s))
            ON CONFLICT (shard) DO UPDATE
               SET holder = excluded.holder, fence = lease.fence + 1, expires_at = excluded.expires_at
             WHERE lease.expires_at < now()
            RETURNING fence, stream_created_at, sequence
            """,
            (shard, holder, seconds),
        )
        return Lease(row["fence"], Position(row["stream_created_at"], row["sequence"])) if row else None

    def advance(self, shard: str, fence: int, position: Position, seconds: int) -> bool:
        row = self._database.fetch_one(
            """
            UPDATE messaging.bridge_leases
               SET stream_created_at = %s, sequence = %s, expires_at = now() + make_interval(secs => %s)
             WHERE shard = %s AND fence = %s
            RETURNING fence
            """,
            (position.created, position.sequence, seconds, shard, fence),
        )
        return row is not None

    def release(self, shard: str, fence: int) -> None:
        self._database.fetch_one(
            """
            UPDATE messaging.bridge_leases SET expires_at = '-infinity'
             WHERE shard = %s AND fence = %s
            RETURNING fence
            """,
            (shard, fence),
        )
