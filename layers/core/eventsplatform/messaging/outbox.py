"""Appending to the outbox, in the transaction that changes the state; and poking the relay after it.

The outbox is the event store: each row is one change of one aggregate, numbered by the aggregate's
version. The row lock that a version change takes makes row ids follow versions within an aggregate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from psycopg.types.json import Jsonb

from eventsplatform.adapters.aws import FunctionClient
from eventsplatform.config import OutboxSettings, read_setting
from eventsplatform.messaging.model import Change, shard_of, topic_of
from eventsplatform.observability import logger
from eventsplatform.tracing import current_traceparent

if TYPE_CHECKING:
    from eventsplatform.adapters.postgres import Connection, Database

Store = TypeVar("Store")


class Outbox:
    """The outbox as one transaction sees it."""

    def __init__(self, connection: Connection, shards: int) -> None:
        self._connection = connection
        self._shards = shards
        self.touched_shards: set[int] = set()

    def append(self, change: Change) -> None:
        """Raises KeyError for a change that no topic is for: its row could never be relayed."""
        topic_of(change.type)
        shard = shard_of(change.key, self._shards)
        self._connection.execute(
            """
            INSERT INTO messaging.outbox
                   (shard, aggregate_type, aggregate_id, version, type, partition_key, payload, actor_id, traceparent)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (
                shard,
                change.aggregate_type,
                change.aggregate_id,
                change.version,
                change.type,
                change.key,
                Jsonb(change.data),
                change.actor_id,
                current_traceparent(),
            ),
        )
        self.touched_shards.add(shard)


class RelayPoke:
    """Wakes the relay after a commit. A lost poke costs latency only: a sweep runs every minute."""

    def __init__(self, functions: FunctionClient, relay_function: str) -> None:
        self._functions = functions
        self._relay_function = relay_function

    def __call__(self, shards: set[int]) -> None:
        try:
            self._functions.invoke_async(self._relay_function, {"shards": sorted(shards)})
        except Exception:
            logger.warning("the relay could not be poked; the sweep will find the rows", exc_info=True)


class UnitOfWork(Generic[Store]):
    """Transactions of one service: its store and the outbox, committed together, then the relay poked."""

    def __init__(
        self,
        database: Database,
        store: Callable[[Connection], Store],
        poke: Callable[[set[int]], None],
        shards: int,
    ) -> None:
        self._database = database
        self._store = store
        self._poke = poke
        self._shards = shards

    @contextmanager
    def __call__(self) -> Iterator[tuple[Store, Outbox]]:
        with self._database.transaction() as connection:
            outbox = Outbox(connection, self._shards)
            yield self._store(connection), outbox
        if outbox.touched_shards:
            self._poke(outbox.touched_shards)

    @contextmanager
    def statement(self) -> Iterator[Store]:
        """The store for one statement, which is its own transaction."""
        with self._database.autocommit() as connection:
            yield self._store(connection)


def unit_of_work(database: Database, store: Callable[[Connection], Store]) -> UnitOfWork[Store]:
    """The unit of work of a deployed function."""
    poke = RelayPoke(FunctionClient(), read_setting("OUTBOX_RELAY_FUNCTION", str))
    return UnitOfWork(database, store, poke, OutboxSettings.from_environment().shards)
