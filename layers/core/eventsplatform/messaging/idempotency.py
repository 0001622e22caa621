"""Records of requests that had their effect: a row in the transaction of the effect, in the service's own schema.

The row is the transaction's last statement and travels with its COMMIT. A repeat of the request, at the same time or
later, breaks on the row's key and so leaves nothing behind; then it is given the first one's outcome. An answer that
was lost after COMMIT is found this way, too.
"""

from __future__ import annotations

import base64
from functools import cache
from typing import Any, TypeVar, cast

import orjson
from psycopg import sql
from psycopg.errors import LockNotAvailable, UniqueViolation
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from eventsplatform.adapters.postgres import Connection
from eventsplatform.errors import ConflictError, FieldError, InvalidInputError, PlatformError, error_from_record
from eventsplatform.idempotency import KEPT_FOR, NamedRequest, Table

Result = TypeVar("Result")
Outcome = dict[str, Any]

_PRIMARY_KEYS = {f"{table}_pkey" for table in KEPT_FOR}


class RequestRecords:
    """Those in one of the tables that a service may keep them in."""

    def __init__(self, schema: str, name: Table) -> None:
        table = sql.Identifier(schema, name)
        self._add = sql.SQL(
            "WITH expired AS ({}) INSERT INTO {} (id, fingerprint, outcome) VALUES (%s, %s, %s)"
        ).format(expired_records(schema, name), table)
        self._add_or_find = sql.SQL(
            """
            WITH added AS (
                INSERT INTO {0} (id, fingerprint, outcome) VALUES (%(id)s, %(fingerprint)s, %(outcome)s)
                ON CONFLICT (id) DO NOTHING
                RETURNING fingerprint, outcome
            )
            SELECT fingerprint, outcome, true AS added FROM added
            UNION ALL
            SELECT fingerprint, outcome, false AS added FROM {0} WHERE id = %(id)s
            """
        ).format(table)
        self._find = sql.SQL("SELECT fingerprint, outcome FROM {} WHERE id = %s").format(table)

    def add(self, connection: Connection, request: NamedRequest, outcome: Outcome) -> None:
        """The request's outcome, unless it has one: then the transaction breaks (`is_repeat`)."""
        connection.execute(self._add, (request.id, request.fingerprint, _sealed(request, outcome)))

    def settle(self, connection: Connection, request: NamedRequest, outcome: Outcome) -> Outcome:
        """The first outcome of this request, which is `outcome` if it had none.

        Raises ConflictError while the request is still running, InvalidInputError when its key named another one.
        """
        values = {"id": request.id, "fingerprint": request.fingerprint, "outcome": _sealed(request, outcome)}
        try:
            row = connection.execute(self._add_or_find, values).fetchone()
        except LockNotAvailable as error:
            raise still_running() from error
        if row is None:
            # It was added while the statement ran: too late for its snapshot.
            return self.find(connection, request)
        return outcome if row["added"] else self._opened(request, row)

    def find(self, connection: Connection, request: NamedRequest) -> Outcome:
        """The outcome of a request that has one. Raises InvalidInputError when its key named another request."""
        outcome = self.look_for(connection, request)
        assert outcome is not None
        return outcome

    def look_for(self, connection: Connection, request: NamedRequest) -> Outcome | None:
        """The same of a request that may have none."""
        row = connection.execute(self._find, (request.id,)).fetchone()
        return None if row is None else self._opened(request, row)

    def _opened(self, request: NamedRequest, row: dict[str, Any]) -> Outcome:
        if bytes(row["fingerprint"]) != request.fingerprint:
            raise _used_before(request.table)
        request.replayed = True
        return _unsealed(request, row["outcome"])


def expired_records(schema: str, name: Table) -> sql.Composed:
    """Each record takes away two that nobody may ask for any more, so that none is left to clear up."""
    return sql.SQL(
        """
        DELETE FROM {0}
         WHERE id IN (SELECT id FROM {0}
                       WHERE created_at < now() - {1}::interval
                       ORDER BY created_at LIMIT 2 FOR UPDATE SKIP LOCKED)
        """
    ).format(sql.Identifier(schema, name), sql.Literal(KEPT_FOR[name]))


def is_repeat(error: UniqueViolation) -> bool:
    """Whether a transaction broke on the record of a request that had its effect before."""
    return error.diag.constraint_name in _PRIMARY_KEYS


def _used_before(table: Table) -> InvalidInputError:
    if table == "inbox":
        return InvalidInputError([FieldError("/id", "has been used for another message; use a new id for a new one")])
    detail = "has been used for a request with another body; use a new key for a new request"
    return InvalidInputError([FieldError("/header/idempotency-key", detail)])


def still_running() -> ConflictError:
    return ConflictError(
        "A request with this Idempotency-Key is still running; try again shortly.", headers={"Retry-After": "1"}
    )


def outcome_of(result_type: type[Result] | None, result: Result) -> Outcome:
    return {"result": _adapter(cast(Any, result_type)).dump_python(result, mode="json") if result_type else None}


def refusal_of(error: PlatformError) -> Outcome:
    return {"error": error.as_record()}


def answer_of(result_type: type[Result] | None, outcome: Outcome) -> Result:
    """What the first request was answered. Raises the PlatformError that it was refused with."""
    if "error" in outcome:
        raise error_from_record(outcome["error"])
    return cast(Result, _adapter(cast(Any, result_type)).validate_python(outcome["result"]) if result_type else None)


@cache
def _adapter(result_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(result_type)


def _sealed(request: NamedRequest, outcome: Outcome) -> Jsonb:
    if request.seal is None:
        return Jsonb(outcome)
    return Jsonb(_fernet(request.seal).encrypt(orjson.dumps(outcome)).decode())


def _unsealed(request: NamedRequest, kept: Any) -> Outcome:
    if request.seal is None:
        return cast(Outcome, kept)
    return cast(Outcome, orjson.loads(_fernet(request.seal).decrypt(kept)))


def _fernet(key: bytes) -> Any:
    from cryptography.fernet import Fernet  # only for answers with secrets: it costs their cold start alone

    return Fernet(base64.urlsafe_b64encode(key))
