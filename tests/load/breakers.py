"""What a breaker adds to a call that succeeds, beside calls of the engines it stands before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from eventsplatform.adapters import breakers
from eventsplatform.adapters.breakers import breaker, repeated
from eventsplatform.adapters.guarded_redis import connect
from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings, RedisSettings
from eventsplatform.operations.migrate import migrate
from tests.load.report import Table, Target
from tests.load.run import Run
from tests.load.samples import Summary
from tests.support.engines import engines_running

MAXIMUM_US = 20.0
IN_A_ROW = 100


async def bench(run: Run) -> None:
    samples = 50 if run.quick else 500
    directory = run.directory / "breakers"
    directory.mkdir()
    with engines_running(directory, only=frozenset({"postgres", "redis"})) as running:
        migrate(running.endpoints.postgres)
        database = Database(DatabaseSettings(running.endpoints.postgres, "messaging", False))
        redis = connect(RedisSettings(running.endpoints.redis))
        calls: dict[str, Callable[[], object]] = {
            "nothing, guarded": _guarded,
            "nothing, that could be repeated": lambda: repeated("opensearch", _nothing, lambda _: True),
            "Redis: GET, guarded": lambda: redis.get("k"),
            "PostgreSQL: SELECT 1, guarded": database.ping,
        }
        figures = {name: await asyncio.to_thread(_microseconds, call, samples) for name, call in calls.items()}
        database.close()
    breakers.forget()
    run.report.add(
        Table(
            title="A breaker on a call that succeeds, in µs",
            columns=["call", "p50", "p99"],
            rows=[(name, summary.p50 * 1e3, summary.p99 * 1e3) for name, summary in figures.items()],
            targets=[Target("a breaker, p50", figures["nothing, guarded"].p50 * 1e3, MAXIMUM_US, "µs")],
            notes=[f"{samples} samples of {IN_A_ROW} calls each."],
        )
    )


def _nothing() -> None: ...


def _guarded() -> None:
    with breaker("opensearch"):
        _nothing()


def _microseconds(call: Callable[[], object], samples: int) -> Summary:
    timings = []
    for _ in range(samples):
        began = time.perf_counter()
        for _ in range(IN_A_ROW):
            call()
        timings.append((time.perf_counter() - began) / IN_A_ROW)
    return Summary.of(timings)
