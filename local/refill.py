"""Gives back to the engines without a disk what they lost: Kafka from the outbox, OpenSearch from the catalog.

Everything but Postgres is a projection, so nothing is lost that could not be sent again. What has
certainly been consumed need not be: a watermark follows the time at which nothing was on its way.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import scalar_row

_LOG = logging.getLogger(__name__)

WATCH_EVERY_SECONDS = 2.0
# A consumer's lag is known a little late; what was published just before the watermark is sent again.
MARGIN = timedelta(seconds=30)


class Refill:
    """`lag` gives the messages not yet processed by mapping and partition; `relay` wakes the outbox relay."""

    def __init__(
        self,
        database_url: str,
        state: Path,
        *,
        lag: Callable[[], Mapping[str, Mapping[str, int]]],
        relay: Callable[[], object],
    ) -> None:
        self._database_url = database_url
        self._file = state / "watermark.json"
        self._lag = lag
        self._relay = relay

    async def watch(self) -> None:
        """Move the watermark for as long as the platform runs."""
        while True:
            await asyncio.sleep(WATCH_EVERY_SECONDS)
            try:
                await asyncio.to_thread(self.move_watermark)
            except psycopg.OperationalError:
                _LOG.debug("the database is away; the watermark stays")

    def move_watermark(self) -> None:
        """Everything published before now has been consumed, unless something is pending or lagging."""
        with psycopg.connect(self._database_url, autocommit=True, row_factory=scalar_row) as connection:
            now: Any = connection.execute("SELECT now()").fetchone()
            pending: Any = connection.execute(
                "SELECT EXISTS (SELECT FROM messaging.outbox WHERE published_at IS NULL)"
            ).fetchone()
        lag = self._lag()
        if pending or not lag or any(count for partitions in lag.values() for count in partitions.values()):
            return
        self._file.write_text(json.dumps({"consumed_before": now.isoformat()}))

    def republish(self) -> int:
        """Have the relay send again what an emptied broker may have lost; the number of messages.

        Their ids stay, so consumers that have seen one take it for the duplicate it is.
        """
        since = self._watermark()
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            cursor = connection.execute(
                """
                UPDATE messaging.outbox SET published_at = NULL
                 WHERE published_at >= coalesce(%s::timestamptz, '-infinity')
                """,
                (since - MARGIN if since else None,),
            )
        self._relay()
        return cursor.rowcount

    def _watermark(self) -> datetime | None:
        try:
            return datetime.fromisoformat(json.loads(self._file.read_text())["consumed_before"])
        except (FileNotFoundError, ValueError, KeyError):
            return None
