"""What a row of the outbox costs its writer and its relay, by how the outbox is stored.

Bare SQL over one connection, with `synchronous_commit = off`: what is compared is the server's work and not its disk.
The designs, of which the first is no more and `by month, version as key` is what there is:

- one table, unique on the id and on (aggregate, version);
- by month, with the same two keys in each partition, or with the version's alone;
- by month, and a table of versions that a trigger fills, which keeps them unique over the months as well;
- by month, and a table of pending rows that a trigger fills and the relay deletes from.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.load.report import Table
from tests.load.run import Run
from tests.support.engines import engines_running

BATCH = 500
ROWS_BEFORE = 50_000

_COLUMNS = """
    id bigint GENERATED ALWAYS AS IDENTITY, shard smallint NOT NULL, aggregate_type text NOT NULL,
    aggregate_id bigint NOT NULL, version integer NOT NULL, type text NOT NULL, partition_key text NOT NULL,
    payload jsonb NOT NULL, actor_id bigint, traceparent text NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz
"""
_VERSION = "(aggregate_type, aggregate_id, version)"
_FOUND = """
    CREATE INDEX ON outbox (actor_id, id);
    CREATE INDEX ON outbox (partition_key) WHERE aggregate_type = 'registration';
"""
_PENDING = "CREATE INDEX ON outbox (shard, id) WHERE published_at IS NULL;"


def _by_month(*keys: str) -> str:
    return f"""
        CREATE TABLE outbox ({_COLUMNS}) PARTITION BY RANGE (occurred_at);
        CREATE TABLE outbox_1 PARTITION OF outbox FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
        {"".join(f"ALTER TABLE outbox_1 ADD {key};" for key in keys)}
        {_FOUND}
    """


def _trigger(table: str, columns: str, values: str) -> str:
    return f"""
        CREATE TABLE {table} ({columns});
        CREATE FUNCTION fill_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO {table} VALUES ({values});
            RETURN NULL;
        END $$;
        CREATE TRIGGER fill_{table} AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION fill_{table}();
    """


@dataclass(frozen=True)
class Design:
    schema: str
    look: str = """
        SELECT id, payload FROM outbox WHERE shard = 1 AND published_at IS NULL ORDER BY id LIMIT %s
    """
    mark: str = """
        UPDATE outbox SET published_at = now() WHERE shard = 1 AND published_at IS NULL AND id = ANY(%s)
    """


DESIGNS = {
    "one table": Design(
        f"CREATE TABLE outbox ({_COLUMNS}, PRIMARY KEY (id), UNIQUE {_VERSION}); {_FOUND} {_PENDING}",
        mark="UPDATE outbox SET published_at = now() WHERE id = ANY(%s)",
    ),
    "by month, id and version as keys": Design(_by_month("PRIMARY KEY (id)", f"UNIQUE {_VERSION}") + _PENDING),
    "by month, version as key": Design(_by_month(f"PRIMARY KEY {_VERSION}") + _PENDING),
    "… and all versions by trigger": Design(
        _by_month()
        + _PENDING
        + _trigger(
            "versions",
            f"aggregate_type text, aggregate_id bigint, version integer, PRIMARY KEY {_VERSION}",
            "NEW.aggregate_type, NEW.aggregate_id, NEW.version",
        )
    ),
    "… and pending rows by trigger": Design(
        _by_month("PRIMARY KEY (id)", f"UNIQUE {_VERSION}")
        + _trigger(
            "pending",
            "shard smallint, id bigint, occurred_at timestamptz, PRIMARY KEY (shard, id)",
            "NEW.shard, NEW.id, NEW.occurred_at",
        ),
        look="""
            SELECT id, payload
              FROM (SELECT id, occurred_at FROM pending WHERE shard = 1 ORDER BY id LIMIT %s) AS first
              JOIN outbox USING (id, occurred_at)
             ORDER BY id
        """,
        mark="DELETE FROM pending WHERE shard = 1 AND id = ANY(%s)",
    ),
}

_APPEND = """
    INSERT INTO outbox
           (shard, aggregate_type, aggregate_id, version, type, partition_key, payload, actor_id, traceparent)
    VALUES (1, 'registration', %s, 1, 'registrations.created', %s, %s, %s,
            '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')
"""
_PAYLOAD = '{"event_id": 42, "status": "active", "text": "' + "x" * 500 + '"}'


@dataclass(frozen=True)
class Turn:
    """Microseconds to append a row, milliseconds to look for a batch and to mark it, bytes of log for each row."""

    append_us: float
    look_ms: float
    mark_ms: float
    log_bytes: float


async def bench(run: Run) -> None:
    rounds, batches = (1, 2) if run.quick else (5, 6)
    directory = run.directory / "outbox"
    directory.mkdir()
    with engines_running(directory, only=frozenset({"postgres"})) as running:
        turns = await asyncio.to_thread(_measure, running.endpoints.postgres, rounds, batches)
    run.report.add(_table(turns, rounds))


def _measure(url: str, rounds: int, batches: int) -> Mapping[str, Sequence[Turn]]:
    turns: dict[str, list[Turn]] = defaultdict(list)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        for _ in range(rounds):
            for name, design in DESIGNS.items():
                turns[name].append(_turn(connection, design, batches))
    return turns


def _turn(connection: psycopg.Connection[Any], design: Design, batches: int) -> Turn:
    connection.execute("DROP SCHEMA IF EXISTS design CASCADE; CREATE SCHEMA design; SET search_path = design")
    connection.execute(design.schema)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_APPEND, _rows(ROWS_BEFORE, before=True))
    while rows := connection.execute(design.look, (BATCH,)).fetchall():
        connection.execute(design.mark, ([row[0] for row in rows],))
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")
    before = _log_position(connection)
    count = batches * BATCH
    appends = [_append(connection, values) for values in _rows(count)]
    looks, marks = [], []
    for _ in range(batches):
        began = time.perf_counter()
        rows = connection.execute(design.look, (BATCH,)).fetchall()
        looked = time.perf_counter()
        connection.execute(design.mark, ([row[0] for row in rows],))
        looks.append(looked - began)
        marks.append(time.perf_counter() - looked)
    written = _log_position(connection) - before
    append, look, mark = map(statistics.median, (appends, looks, marks))
    return Turn(append * 1e6, look * 1e3, mark * 1e3, written / count)


def _rows(count: int, *, before: bool = False) -> Iterator[tuple[int, str, str, int]]:
    return ((-n if before else n, str(n % 50), _PAYLOAD, n) for n in range(1, count + 1))


def _append(connection: psycopg.Connection[Any], values: tuple[int, str, str, int]) -> float:
    began = time.perf_counter()
    connection.execute(_APPEND, values, prepare=True)
    return time.perf_counter() - began


def _log_position(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    assert row is not None
    return int(row[0])


def _table(turns: Mapping[str, Sequence[Turn]], rounds: int) -> Table:
    def median(name: str, figure: str) -> float:
        return statistics.median(getattr(turn, figure) for turn in turns[name])

    return Table(
        title="A row of the outbox, by how it is stored",
        columns=["design", "append, µs", f"look for {BATCH}, ms", f"mark {BATCH}, ms", "log, bytes a row"],
        rows=[
            [name, *(median(name, figure) for figure in ("append_us", "look_ms", "mark_ms", "log_bytes"))]
            for name in turns
        ],
        notes=[f"Medians, {rounds} rounds; {ROWS_BEFORE} rows before; synchronous_commit = off; the log of both."],
    )
