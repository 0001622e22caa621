"""PostgreSQL through psycopg 3: one connection per execution environment, opened on first use.

A Lambda environment serves one request at a time, so a pool in the function would only hold idle
connections; RDS Proxy pools on the server's side. A connection that went stale while the environment
was frozen is replaced once, before anything of the transaction was sent.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import orjson
import psycopg
from psycopg import conninfo
from psycopg.abc import RV, PQGen
from psycopg.errors import ConnectionTimeout, PipelineAborted
from psycopg.rows import dict_row
from psycopg.types.json import set_json_dumps, set_json_loads

from eventsplatform.adapters.breakers import breaker, repeated
from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.config import DatabaseSettings
from eventsplatform.deadline import at_most
from eventsplatform.errors import DependencyUnavailableError, OutcomeUnknownError
from eventsplatform.observability import logger, traced
from eventsplatform.transactions import holding_locks, require_no_locks

set_json_dumps(orjson.dumps)
set_json_loads(orjson.loads)

Row = dict[str, Any]
Connection = psycopg.Connection[Row]

# The server itself gives up a statement a second earlier (`operations.migrate.ROLE_SETTINGS`), while it lives.
ANSWER_WITHIN_SECONDS = CALL_POLICIES["postgres"].timeout

# libpq waits this long even when it is told to wait less.
SHORTEST_CONNECT_SECONDS = 2

# A peer that is gone without a word, as behind a failover, is noticed within seconds and not by TCP's quarter
# of an hour. Statements are bounded by the role's own settings (`operations.migrate`): RDS Proxy refuses
# connections that bring `options`.
_KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 8_000,
}


class _BoundedConnection(psycopg.Connection[Row]):
    """Breaks when the server does not answer for longer than any statement may take, or than there is time.

    One that hangs (its storage stalls, its process is stopped) keeps no time-out of its own, and its kernel still
    answers the keepalives.
    """

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = ANSWER_WITHIN_SECONDS) -> RV:
        try:
            return super().wait(gen, interval, timeout if timeout is None else at_most(timeout))
        except psycopg.OperationalError as error:
            # Unless the server itself said it, nothing more can be said over this connection: ending a transaction
            # or pipeline would only wait again.
            if error.sqlstate is None and not isinstance(error, PipelineAborted):
                self.pgconn.finish()
            raise


class Database:
    """One service's way into its own schema, as its own role."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._connection: Connection | None = None

    @property
    def role(self) -> str:
        """The service's role, which is also the name of its schema."""
        return self._settings.role

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A READ COMMITTED transaction: commits on leaving, rolls back on an exception.

        Statements go out in a pipeline: one whose result is not fetched travels with the next, BEGIN with
        the first and COMMIT with the last, so its error may show only there or on leaving.

        Raises DependencyUnavailableError when Postgres can't be reached or the connection breaks, and its
        subclass OutcomeUnknownError when it breaks during COMMIT.
        """
        with self._usable_connection() as connection, holding_locks(self):
            committing = False
            try:
                with connection.pipeline():
                    connection.execute("BEGIN")
                    yield connection
                    committing = True
                    connection.execute("COMMIT")
            except BaseException as error:
                lost = connection.closed
                self._roll_back(connection)
                if committing and lost:
                    raise OutcomeUnknownError("database") from error
                raise

    @contextmanager
    def effect(self) -> Iterator[Connection]:
        """A single statement that changes something, and is its own transaction: one round trip.

        Raises DependencyUnavailableError when Postgres can't be reached, and its subclass OutcomeUnknownError when
        the connection breaks before the answer has come.
        """
        with self._usable_connection() as connection, holding_locks(self):
            try:
                yield connection
            except psycopg.OperationalError as error:
                if connection.closed:
                    raise OutcomeUnknownError("database") from error
                raise

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """Each statement a transaction of its own and a single round trip. Raises DependencyUnavailableError."""
        with self._usable_connection() as connection:
            yield connection

    def fetch_one(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        rows = self.fetch_all(sql, parameters)
        return rows[0] if rows else None

    def fetch_all(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        with self.autocommit() as connection:
            return connection.execute(sql, parameters).fetchall()

    def ping(self) -> None:
        self.fetch_one("SELECT 1 AS ok")

    def close(self) -> None:
        self._discard()

    @contextmanager
    def _usable_connection(self) -> Iterator[Connection]:
        require_no_locks("another database", besides=self)
        try:
            with breaker("postgres", is_outage=_is_outage):
                if self._connection is None or not _is_usable(self._connection):
                    self._discard()
                    self._connection = repeated("postgres", self._open, _was_refused)
                with traced("postgres"):
                    yield self._connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._discard()
            logger.warning("postgres failed", extra={"error": str(error).partition("\n")[0]})
            raise DependencyUnavailableError("database") from error

    def _open(self) -> Connection:
        url, parameters = self._settings.url, connection_parameters(self._settings)
        parameters["connect_timeout"] = int(at_most(parameters["connect_timeout"]))
        if parameters["connect_timeout"] < SHORTEST_CONNECT_SECONDS:
            raise DependencyUnavailableError("database", was_called=False)
        with traced("postgres connect"):
            return _BoundedConnection.connect(url, autocommit=True, row_factory=dict_row, **parameters)

    def _roll_back(self, connection: Connection) -> None:
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return
        try:
            connection.rollback()
        except psycopg.Error:
            # The server rolls back when the connection ends.
            self._discard()

    def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def connection_parameters(settings: DatabaseSettings) -> dict[str, Any]:
    """What a connection needs beside its URL, as libpq's keywords; on AWS with a fresh token for a password."""
    parameters: dict[str, Any] = {
        "user": settings.role,
        "application_name": settings.role,
        "connect_timeout": settings.connect_timeout_seconds,
        **_KEEPALIVE,
    }
    if settings.iam_authentication:
        parameters["password"] = _iam_token(settings)
    return parameters


def _is_outage(error: BaseException) -> bool:
    """Whether the server is gone or does not answer; not what it says of a statement, as that rows are locked."""
    if isinstance(error, OutcomeUnknownError):
        return True
    if not isinstance(error, psycopg.OperationalError) or isinstance(error, PipelineAborted):
        return False
    # Connection exceptions, a server that shuts down or starts, and one that takes no more connections.
    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P0")) or error.sqlstate == "53300"


def _was_refused(error: BaseException) -> bool:
    """At once, as while a server starts again; one that kept its caller waiting is not asked a second time."""
    return isinstance(error, psycopg.OperationalError) and not isinstance(error, ConnectionTimeout)


def _is_usable(connection: Connection) -> bool:
    """False for a connection that the server closed while this environment was frozen.

    Reading all that has arrived on the socket, without waiting, shows the end of the stream behind the
    server's farewell; it costs no round trip.
    """
    if connection.closed or connection.broken:
        return False
    try:
        while select.select([connection.pgconn.socket], [], [], 0)[0]:
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
