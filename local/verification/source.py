"""What is read, and how much of it: one snapshot of PostgreSQL, and the search index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from eventsplatform.search.index import INDEX
from local.verification.comparison import Row

PAGE = 500
ROWS_AT_ONCE = 2_000

# What queries are kept to, as `{event}` of a column `event_id` and so on. What a NULL leaves open is planned away.
_CONDITIONS = {
    "event": sql.SQL("(%(event)s::bigint IS NULL OR event_id = %(event)s)"),
    "id": sql.SQL(
        "(%(event)s::bigint IS NULL OR id = %(event)s) AND (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s))"
    ),
    "event_id": sql.SQL(
        "(%(event)s::bigint IS NULL OR event_id = %(event)s)"
        " AND (%(ids)s::bigint[] IS NULL OR event_id = ANY (%(ids)s))"
    ),
}

_names = count(1)


@dataclass(frozen=True)
class Scope:
    """All there is; what concerns one event; or what has one of these ids."""

    event: int | None = None
    ids: Sequence[int] | None = None


@dataclass(frozen=True)
class Source:
    connection: psycopg.Connection[dict[str, Any]]
    index: httpx.Client

    def rows(self, query: sql.SQL | sql.Composed, scope: Scope, **values: Any) -> Iterator[dict[str, Any]]:
        """A query's rows, some at a time. `scope` is bound as %(event)s and %(ids)s."""
        ids = list(scope.ids) if scope.ids is not None else None
        with self.connection.cursor(f"rows_{next(_names)}") as cursor:
            cursor.itersize = ROWS_AT_ONCE
            yield from cursor.execute(query, {"event": scope.event, "ids": ids, **values})

    def documents(self, scope: Scope) -> Iterator[dict[str, Any]]:
        """The documents of the index in the order of their `id`; none when there is no index yet."""
        ids = [scope.event] if scope.event is not None else scope.ids
        body: dict[str, Any] = {
            "size": PAGE,
            "sort": [{"id": "asc"}],
            "query": {"terms": {"id": list(ids)}} if ids is not None else {"match_all": {}},
        }
        while True:
            answer = self.index.post(f"/{INDEX}/_search", json=body)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return
            hits = answer.raise_for_status().json()["hits"]["hits"]
            yield from (hit["_source"] for hit in hits)
            if len(hits) < PAGE:
                return
            body["search_after"] = hits[-1]["sort"]


class Query:
    """Rows by the columns of their key, in its order. `of_version` is their version, all others are compared."""

    def __init__(self, text: str, *key: str) -> None:
        self._query = sql.SQL(text).format(**_CONDITIONS)
        self._key = key

    def __call__(self, source: Source, scope: Scope) -> Iterator[Row]:
        for values in source.rows(self._query, scope):
            key = tuple(values.pop(name) for name in self._key)
            yield Row(key, version=values.pop("of_version", 0), fields=values)


@contextmanager
def snapshot(postgres: str, opensearch: str) -> Iterator[Source]:
    """All of PostgreSQL as it is now, as an administrator sees it; and the index with all that it has been given.

    Raises psycopg.OperationalError and httpx.HTTPError.
    """
    with (
        psycopg.connect(postgres, autocommit=True, row_factory=dict_row, connect_timeout=5) as connection,
        httpx.Client(base_url=opensearch, timeout=30, trust_env=False) as index,
        connection.transaction(),
    ):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        index.post(f"/{INDEX}/_refresh")
        yield Source(connection, index)
