"""Appending to the outbox, in the transaction that changes the state, once per request; poking the relay after it.

The outbox is the event store: each row is one change of one aggregate, numbered by the aggregate's
version. The row lock that a version change takes makes row ids follow versions within an aggregate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from psycopg.errors import LockNotAvailable, UniqueViolation
from psycopg.types.json import Jsonb

from eventsplatform.adapters.aws import FunctionClient
from eventsplatform.config import OutboxSettings, read_setting
from eventsplatform.errors import PlatformError
from eventsplatform.idempotency import KEPT_FOR, NamedRequest, named_request
from eventsplatform.messaging.idempotency import (
    RequestRecords,
    answer_of,
    is_repeat,
    outcome_of,
    refusal_of,
    still_running,
)
from eventsplatform.messaging.inbox import Inbox
from eventsplatform.messaging.model import AuditRecord, Change, shard_of, topic_of
from eventsplatform.messaging.recording import Effects, StatementRecording
from eventsplatform.observability import emit_metric, logger
from eventsplatform.tracing import current_traceparent

if TYPE_CHECKING:
    from eventsplatform.adapters.postgres import Connection, Database
    from eventsplatform.messaging.envelope import Message

Store = TypeVar("Store")
Result = TypeVar("Result")


class Outbox:
    """The outbox as one transaction sees it."""

    def __init__(self, connection: Connection, shards: int) -> None:
        self.connection = connection
        self._shards = shards
        self.touched_shards: set[int] = set()

    def append(self, change: Change) -> None:
        """Raises KeyError for a change that no topic is for: its row could never be relayed."""
        topic_of(change.type)
        shard = shard_of(change.key, self._shards)
        self.connection.execute(
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

    def wake_relay(self) -> None:
        self.touched_shards.add(0)

    def record(self, audit: AuditRecord) -> None:
        self.connection.execute(
            """
            INSERT INTO messaging.audit_log (action, subject_type, subject_id, actor_id, details, traceparent)
            VALUES (%s, %s, %s, %s, %s, %s)
            """,
            (
                audit.action,
                audit.subject_type,
                audit.subject_id,
                audit.actor_id,
                Jsonb(audit.details),
                current_traceparent(),
            ),
        )


# Well within the time for which a relay stays awake that has found what was committed (`relay.AWAKE_SECONDS`).
POKE_AGAIN_SECONDS = 1.0


class RelayPoke:
    """Wakes the relay after a commit, unless it is awake from the one before. A lost poke costs latency only.

    The relay that a poke of a moment ago was for takes every shard that nobody holds and keeps looking for what comes.
    Should it have died since, the poke after this one wakes another, and a sweep does every minute.
    """

    def __init__(self, functions: FunctionClient, relay_function: str, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells the time of day: how others measure time may stand still while the environment is frozen."""
        self._functions = functions
        self._relay_function = relay_function
        self._clock = clock
        self._poked_at = -math.inf

    def __call__(self, _shards: set[int]) -> None:
        now = self._clock()
        if 0 <= now - self._poked_at < POKE_AGAIN_SECONDS:
            return
        try:
            self._functions.invoke_async(self._relay_function, {"poked": True})
            self._poked_at = now
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
        consumer: str = "",
    ) -> None:
        """`consumer` is the group of the consumer at work, if it is one: its inbox is told apart by it."""
        self._database = database
        self._store = store
        self._poke = poke
        self._shards = shards
        self._records = {table: RequestRecords(database.role, table) for table in KEPT_FOR}
        self._inbox = Inbox(database.role, consumer)
        self._effects = {table: Effects(database.role, table) for table in KEPT_FOR}

    def run(self, result_type: type[Result] | None, change: Callable[[Store, Outbox], Result]) -> Result:
        def attempt(request: NamedRequest | None) -> Result:
            with self() as (store, outbox):
                result = change(store, outbox)
                if request is not None:
                    self._records[request.table].add(outbox.connection, request, outcome_of(result_type, result))
            return result

        return self._once(result_type, attempt)

    def run_at_once(
        self, result_type: type[Result], key: str, change: Callable[[Store, StatementRecording], Result]
    ) -> Result:
        shard = shard_of(key, self._shards)

        def attempt(request: NamedRequest | None) -> Result:
            effects = self._effects[request.table if request is not None else "idempotency_keys"]
            with self._database.effect() as connection:
                result = change(self._store(connection), StatementRecording(connection, effects, shard, request))
            self._poke({shard})
            return result

        return self._once(result_type, attempt)

    def _once(self, result_type: type[Result] | None, attempt: Callable[[NamedRequest | None], Result]) -> Result:
        request = named_request()
        if request is None:
            return attempt(None)
        if request.settled:
            raise RuntimeError("a request has one effect: put all of it in one run")
        try:
            result = attempt(request)
        except UniqueViolation as error:
            if not is_repeat(error):
                raise
            with self._database.autocommit() as connection:
                outcome = self._records[request.table].find(connection, request)
        except PlatformError as error:
            if isinstance(error.__cause__, LockNotAvailable):
                # What holds the rows for so long may well be the first try of this very request.
                raise still_running() from error
            if not error.is_final:
                raise
            with self._database.autocommit() as connection:
                outcome = self._records[request.table].settle(connection, request, refusal_of(error))
        else:
            request.settled = True
            return result
        return answer_of(result_type, outcome)

    def once(self, message: Message, change: Callable[[Store, Outbox], None]) -> bool:
        with self() as (store, outbox):
            is_new = self._inbox.add(outbox.connection, message)
            if is_new:
                change(store, outbox)
        if not is_new:
            emit_metric("messages_duplicate_total", 1, consumer=self._inbox.consumer)
        return is_new

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
    consumer = read_setting("CONSUMER_GROUP", str, default="")
    return UnitOfWork(database, store, poke, OutboxSettings.from_environment().shards, consumer)
