"""Sets relay and bridge going again when an engine is back: Kafka, which has no disk here, is sent what it lost.

A new broker must hear first of what the last one lost. So everything is set back before it starts, and relays and
bridges that are at work then, with what comes later in hand, are stopped.

What has certainly been consumed need not be sent again: a watermark follows the time before which everything
has been. It moves while the platform runs and, without a rest, when it is stopped; so a broker that dies is sent a few
seconds' messages, and one that is new after a stop none.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from psycopg.rows import scalar_row

from local.triggers.kafka import Assignment

WATCH_EVERY_SECONDS = 2.0
LOOK_EVERY_SECONDS = 0.1
SETTLE_WITHIN_SECONDS = 3.0
ANSWER_WITHIN_SECONDS = 2.0

# Where each consumer stands: the next offset of each partition that it holds, None before its first message.
Positions = Mapping[Assignment, int | None]


@dataclass(frozen=True)
class _Moment:
    """A time, and how far consumers have to come to have seen everything that was published before it."""

    time: datetime
    inbound: Mapping[str, int]
    """By shard of the bridge from NATS, the sequence up to which it had published."""
    broker: int
    least: Mapping[Assignment, int]

    def has_passed(self, positions: Positions) -> bool:
        return all(self._is_consumed(assignment, positions.get(assignment)) for assignment in self.least)

    def _is_consumed(self, assignment: Assignment, position: int | None) -> bool:
        # Asked for a partition's end, the embedded broker tells one behind the start of the last batch. A batch is
        # fetched whole and with the true end, so who stands at an end beyond that has seen all of it.
        if position is None:
            return self.least[assignment] == 0
        return position >= self.least[assignment] and position == assignment.high_watermark

    def is_over(self) -> bool:
        """Whether consumers start over, with another broker perhaps: their positions then say nothing any more."""
        return not all(assignment.live for assignment in self.least)


class Refill:
    """`positions` gives, for each mapping, where it stands; `relay` wakes the outbox relay; `stop` ends the relays and
    bridges at work, as a crash would; `broker` is the present broker's process id, None while there is none. All are
    called on the event loop.
    """

    def __init__(
        self,
        database_url: str,
        bootstrap_servers: str,
        state: Path,
        *,
        positions: Callable[[], Mapping[str, Positions]],
        relay: Callable[[], object],
        stop: Callable[[], Awaitable[None]],
        broker: Callable[[], int | None],
    ) -> None:
        self._database_url = database_url
        self._bootstrap_servers = bootstrap_servers
        self._file = state / "watermark.json"
        self._positions = positions
        self._relay = relay
        self._stop = stop
        self._broker = broker

    async def watch(self) -> None:
        """Move the watermark for as long as the platform runs."""
        while True:
            await self._move_watermark()
            await asyncio.sleep(WATCH_EVERY_SECONDS)

    async def settle(self) -> None:
        """Before a stop: give what is on its way a moment to arrive, and remember that it has."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._move_watermark(), SETTLE_WITHIN_SECONDS)

    async def set_back(self) -> int:
        """While there is no broker, have relay and bridge begin again with what it may have lost: so many messages.

        Their ids stay, so consumers that have seen one take it for the duplicate it is. Raises psycopg.Error.
        """
        count = await asyncio.to_thread(self._set_back)
        await self._stop()
        await asyncio.to_thread(self._end_leases)  # of those that began in between
        return count

    async def resume_relay(self) -> None:
        """Relay what waits in a database that is back, also where a relay could not give up its lease any more.

        Raises psycopg.Error.
        """
        await asyncio.to_thread(self._end_leases)
        self._relay()

    async def _move_watermark(self) -> None:
        """Take the present moment for the watermark as soon as everything published before it has been consumed."""
        moment = await self._present()
        while moment is not None and moment.broker == self._broker() and not moment.is_over():
            if moment.has_passed(self._all_positions()):
                self._write(moment)
                return
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _present(self) -> _Moment | None:
        """None while the database, the broker or a consumer cannot say."""
        broker, positions = self._broker(), self._positions()
        if broker is None or not positions or not all(positions.values()):
            return None
        assignments = list(self._all_positions())
        try:
            now, inbound = await asyncio.to_thread(self._published)
            ends = await asyncio.to_thread(self._ends, {assignment.partition for assignment in assignments})
        except (psycopg.Error, KafkaException):
            return None
        return _Moment(now, inbound, broker, {assignment: ends[assignment.partition] for assignment in assignments})

    def _all_positions(self) -> Positions:
        return {each: offset for mapping in self._positions().values() for each, offset in mapping.items()}

    def _published(self) -> tuple[datetime, dict[str, int]]:
        """The time, before which the relay has published what it has, and how far the bridge has come."""
        with self._connected() as connection:
            row: Any = connection.execute(
                """
                SELECT jsonb_build_object('now', now(),
                                          'inbound', coalesce(jsonb_object_agg(shard, sequence), '{}'))
                  FROM messaging.bridge_leases
                """
            ).fetchone()
        return datetime.fromisoformat(row["now"]), row["inbound"]

    def _ends(self, partitions: set[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        """Raises KafkaException."""
        wanted: Any = {TopicPartition(*partition): OffsetSpec.latest() for partition in partitions}
        answers = self._admin.list_offsets(wanted, request_timeout=ANSWER_WITHIN_SECONDS)
        return {(each.topic, each.partition): future.result().offset for each, future in answers.items()}

    def _set_back(self) -> int:
        consumed_before, inbound = self._watermark()
        with self._connected() as connection, connection.transaction():
            # Whoever is at work may have been acknowledged by the broker that is gone: they must not note that as sent.
            _end_leases(connection)
            outbox = connection.execute(
                """
                UPDATE messaging.outbox SET published_at = NULL
                 WHERE published_at >= coalesce(%s::timestamptz, '-infinity')
                """,
                (consumed_before,),
            ).rowcount
            bridged: Any = connection.execute(
                """
                WITH passed AS (
                    SELECT shard, sequence, least(sequence, coalesce((%s::jsonb ->> shard)::bigint, 0)) AS consumed
                      FROM messaging.bridge_leases
                ), set_back AS (
                    UPDATE messaging.bridge_leases AS lease SET sequence = consumed
                      FROM passed WHERE passed.shard = lease.shard
                )
                SELECT coalesce(sum(sequence - consumed), 0)::bigint FROM passed
                """,
                (json.dumps(inbound),),
            ).fetchone()
        return outbox + int(bridged)

    def _end_leases(self) -> None:
        with self._connected() as connection:
            _end_leases(connection)

    def _connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._database_url, autocommit=True, row_factory=scalar_row, connect_timeout=int(ANSWER_WITHIN_SECONDS)
        )

    @cached_property
    def _admin(self) -> AdminClient:
        settings: dict[str, Any] = {
            "bootstrap.servers": self._bootstrap_servers,
            "reconnect.backoff.max.ms": 1000,
            "log_level": 0,
            "error_cb": lambda _: None,
        }
        return AdminClient(settings)

    def _watermark(self) -> tuple[datetime | None, dict[str, int]]:
        try:
            written = json.loads(self._file.read_text())
            return datetime.fromisoformat(written["consumed_before"]), written.get("inbound", {})
        except (FileNotFoundError, ValueError, KeyError):
            return None, {}

    def _write(self, moment: _Moment) -> None:
        written = self._file.with_name(self._file.name + ".new")
        written.write_text(json.dumps({"consumed_before": moment.time.isoformat(), "inbound": moment.inbound}))
        written.replace(self._file)


def _end_leases(connection: psycopg.Connection[Any]) -> None:
    connection.execute("UPDATE messaging.relay_leases SET fence = fence + 1, expires_at = '-infinity'")
    connection.execute("UPDATE messaging.bridge_leases SET fence = fence + 1, expires_at = '-infinity'")
