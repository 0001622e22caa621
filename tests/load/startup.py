"""How long the platform takes to start, what it holds when idle, and what a function's first request costs.

A start is timed from the creation of the process to its word that it is ready. The first one makes the database and
the engines' files, a later one finds them, with the demo data in them. Its reference is what Python alone takes to
load the platform's modules.

Memory is the proportional set size of the whole process tree, so that pages shared by the workers count once.
A cold request starts its function's execution environment, a warm one finds it; the reference is a function
without any library.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from tests.load.http_client import HttpClient
from tests.load.noop.server import noop_server
from tests.load.platform import memory_mb, platform_started, wait_until_idle
from tests.load.processes import seconds_to_run
from tests.load.report import Table, Target
from tests.load.run import Run
from tests.support.platform import RunningPlatform

MAXIMUM_START_SECONDS = 15.0
MAXIMUM_MEMORY_MB = 1536.0
WARM_REQUESTS = 50

FUNCTIONS = ("get_event", "search_events", "check_health")

ColdAndWarm = tuple[float, float]
"""Seconds of a first request, and the median of those after it."""


async def bench(run: Run) -> None:
    repetitions = 1 if run.quick else 3
    imports = [await seconds_to_run("-c", "import local.platform") for _ in range(repetitions)]
    with platform_started(run.directory / "empty", demo=False) as (_, first):
        pass
    with platform_started(run.demo_state, demo=True) as (platform, first_with_demo):
        wait_until_idle(platform)
        memory = [("after loading the demo data", memory_mb(platform))]
    later, cores = [], 0.0
    requests: dict[str, list[ColdAndWarm]] = {name: [] for name in FUNCTIONS}
    for _ in range(repetitions):
        with platform_started(run.demo_state, demo=True) as (platform, seconds):
            later.append(seconds)
            cores = wait_until_idle(platform)
            memory_at_rest = memory_mb(platform)
            for name, timing in (await _first_requests(platform)).items():
                requests[name].append(timing)
    memory.append(("at rest after a later start", memory_at_rest))
    reference = [await _first_noop_request(run) for _ in range(repetitions)]

    run.report.add(_start_table(first, first_with_demo, later, imports))
    run.report.add(_memory_table(memory, cores))
    run.report.add(_cold_table(requests, reference))


async def _first_requests(platform: RunningPlatform) -> dict[str, ColdAndWarm]:
    (event,) = platform.sql("SELECT min(id) AS id FROM catalog.events WHERE status = 'published'")
    targets = (f"/v1/events/{event['id']}", "/v1/search/events?q=jazz", "/health")
    async with HttpClient(platform.endpoints["gateway"]) as client:
        return {name: await _cold_and_warm(client, target) for name, target in zip(FUNCTIONS, targets, strict=True)}


async def _first_noop_request(run: Run) -> ColdAndWarm:
    async with noop_server(run.directory) as url, HttpClient(url) as client:
        return await _cold_and_warm(client, "/plain")


async def _cold_and_warm(client: HttpClient, target: str) -> ColdAndWarm:
    timings = []
    for _ in range(1 + WARM_REQUESTS):
        started = time.perf_counter()
        await client.expect(200, "GET", target)
        timings.append(time.perf_counter() - started)
    return timings[0], statistics.median(timings[1:])


def _start_table(first: float, first_with_demo: float, later: Sequence[float], imports: Sequence[float]) -> Table:
    reference = statistics.median(imports)
    typical = statistics.median(later)
    return Table(
        title="Start to ready",
        columns=["start", "times", "median s", "slowest s", "imports alone s"],
        rows=[
            ["first, empty", 1, first, first, reference],
            ["first, loading the demo data", 1, first_with_demo, first_with_demo, reference],
            ["later, with the demo data", len(later), typical, max(later), reference],
        ],
        targets=[Target("a later start", typical, MAXIMUM_START_SECONDS, "s")],
    )


def _memory_table(memory: Sequence[tuple[str, float]], cores: float) -> Table:
    return Table(
        title="Memory of the idle platform",
        columns=["when", "PSS MB", "limit MB"],
        rows=[[when, mb, MAXIMUM_MEMORY_MB] for when, mb in memory],
        targets=[Target(f"memory {when}", mb, MAXIMUM_MEMORY_MB, "MB") for when, mb in memory],
        notes=[f"At rest it takes {cores:.0%} of a core."],
    )


def _cold_table(requests: dict[str, list[ColdAndWarm]], reference: Sequence[ColdAndWarm]) -> Table:
    rows: list[list[str | float]] = []
    noop_cold, noop_warm = _medians_ms(reference)
    for name, timings in requests.items():
        cold, warm = _medians_ms(timings)
        rows.append([name, cold, warm, noop_cold, noop_warm])
    return Table(
        title="A function's first request, and those after it",
        columns=["function", "cold ms", "warm ms", "no-op cold ms", "no-op warm ms"],
        rows=rows,
        notes=[f"Medians over {len(reference)} starts; warm: {WARM_REQUESTS} requests one after another."],
    )


def _medians_ms(timings: Sequence[ColdAndWarm]) -> tuple[float, float]:
    colds, warms = zip(*timings, strict=True)
    return statistics.median(colds) * 1000, statistics.median(warms) * 1000
