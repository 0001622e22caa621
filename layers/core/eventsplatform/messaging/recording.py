"""A request's whole effect in one statement: the change, its row in the outbox and the request's record.

One statement is one round trip and its own transaction. What it locks is locked for as long as the server takes, and
not while a client reads an answer and thinks of the next statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from psycopg import sql

from eventsplatform.idempotency import NamedRequest, Table
from eventsplatform.messaging.idempotency import expired_records
from eventsplatform.tracing import current_traceparent

if TYPE_CHECKING:
    from eventsplatform.adapters.postgres import Connection, Row

_TELL = """
    INSERT INTO messaging.outbox
           (shard, aggregate_type, aggregate_id, version, type, partition_key, payload, actor_id, traceparent)
    SELECT %(shard)s, aggregate_type, aggregate_id, version, type, partition_key, payload, actor_id, %(traceparent)s
      FROM told
"""
_RECORD = """
    INSERT INTO {} (id, fingerprint, outcome)
    SELECT %(request)s::bytea, %(fingerprint)s::bytea, jsonb_build_object('result', result)
      FROM told
     WHERE %(request)s::bytea IS NOT NULL
"""


class Effects:
    """What follows a statement's own queries, for a service whose schema is this one and requests kept in a table."""

    def __init__(self, schema: str, name: Table) -> None:
        table = sql.Identifier(schema, name)
        effects = sql.SQL(", outbox AS ({}), expired AS ({}), record AS ({}) SELECT * FROM answer").format(
            sql.SQL(_TELL), expired_records(schema, name), sql.SQL(_RECORD).format(table)
        )
        self._text = effects.as_string()
        self._completed: dict[str, str] = {}

    def complete(self, statement: str) -> str:
        """On one line: psycopg remembers how to read a statement, but none of more than 4,096 characters."""
        if statement not in self._completed:
            self._completed[statement] = " ".join((statement + self._text).split())
        return self._completed[statement]


class StatementRecording:
    """The recording of one request; `request` is None for one that its sender did not name."""

    def __init__(self, connection: Connection, effects: Effects, shard: int, request: NamedRequest | None) -> None:
        if request is not None and request.seal is not None:
            raise RuntimeError("an answer with secrets is sealed before it is sent to the database: use run")
        self._connection = connection
        self._effects = effects
        self._values: dict[str, Any] = {
            "shard": shard,
            "traceparent": current_traceparent(),
            "request": request and request.id,
            "fingerprint": request and request.fingerprint,
        }

    def execute(self, statement: str, values: Mapping[str, Any]) -> Row:
        row = self._connection.execute(self._effects.complete(statement), {**values, **self._values}).fetchone()
        assert row is not None
        return row
