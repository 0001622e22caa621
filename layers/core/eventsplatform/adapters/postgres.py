"""PostgreSQL through psycopg 3: one connection per execution environment, opened on first use.

A Lambda environment serves one request at a time, so a pool in the function would only hold idle
connections; RDS Proxy pools on the server's side. A connection that went stale while the environment
was frozen is replaced once, before anything of the transaction was sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg import conninfo
from psycopg.rows import TupleRow, dict_row
from psycopg.types.json import set_json_dumps, set_json_loads

from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.observability import logger, traced

set_json_dumps(orjson.dumps)
set_json_loads(orjson.loads)

Row = dict[str, Any]
Connection = psycopg.Connection[Row]
T = TypeVar("T")


class Database:
    """One service's way into its own schema, as its own role."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._connection: Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A READ COMMITTED transaction: commits on leaving, rolls back on an exception.

        Raises DependencyUnavailableError when Postgres can't be reached or the connection breaks. A
        break during COMMIT leaves the outcome unknown; idempotency keys make the retry safe.
        """
        connection = self._connected()
        try:
            with traced("postgres"), connection.transaction():
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._discard()
            logger.warning("postgres failed", extra={"error": str(error).splitlines()[0] if str(error) else ""})
            raise DependencyUnavailableError("database") from error

    def fetch_one(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """One statement in its own implicit transaction: a single round trip."""
        rows = self.fetch_all(sql, parameters)
        return rows[0] if rows else None

    def fetch_all(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        connection = self._connected()
        try:
            with traced("postgres"):
                return connection.execute(sql, parameters).fetchall()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._discard()
            raise DependencyUnavailableError("database") from error

    def ping(self) -> None:
        self.fetch_one("SELECT 1 AS ok")

    def close(self) -> None:
        self._discard()

    def _connected(self) -> Connection:
        if self._connection is not None and _is_usable(self._connection):
            return self._connection
        self._discard()
        try:
            self._connection = self._open()
        except psycopg.OperationalError as error:
            raise DependencyUnavailableError("database") from error
        return self._connection

    def _open(self) -> Connection:
        settings = self._settings
        parameters: dict[str, Any] = {
            "user": settings.role,
            "connect_timeout": settings.connect_timeout_seconds,
            "application_name": settings.role,
            "options": (
                f"-c statement_timeout={settings.statement_timeout_ms}"
                f" -c lock_timeout={settings.statement_timeout_ms}"
                " -c idle_in_transaction_session_timeout=30000 -c timezone=UTC"
            ),
        }
        if settings.iam_authentication:
            parameters["password"] = _iam_token(settings)
        with traced("postgres connect"):
            return psycopg.connect(settings.url, autocommit=True, row_factory=dict_row, **parameters)  # type: ignore[arg-type]

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _is_usable(connection: psycopg.Connection[Any] | psycopg.Connection[TupleRow]) -> bool:
    """False for a connection that the server closed while this environment was frozen.

    Reading what has arrived on the socket without waiting shows the server's farewell or the end of
    the stream; it costs no round trip.
    """
    if connection.closed or connection.broken:
        return False
    try:
        connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return connection.pgconn.status == psycopg.pq.ConnStatus.OK


def _iam_token(settings: DatabaseSettings) -> str:
    """A password valid for 15 minutes, signed with the function's role; made without a network call."""
    from eventsplatform.adapters.aws import client

    address = conninfo.conninfo_to_dict(settings.url)
    token: str = client("rds").generate_db_auth_token(
        DBHostname=address["host"], Port=int(address.get("port") or 5432), DBUsername=settings.role
    )
    return token


@cache
def database() -> Database:
    """The execution environment's database, as the role of the service the function belongs to."""
    return Database(DatabaseSettings.from_environment())
