"""What the gateway and the workers add to a function, and how many requests a second they carry.

The same handler is called directly in this process and over HTTP through gateway, Runtime API and the real Lambda
runtime client, with the same event, in turns of a few hundred calls so that a noisy neighbour disturbs both alike.
Added is the difference of the two medians. `bare` is an answer by the HTTP server itself, without gateway and
function: what the client and the server cost. The client has the same cores as the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.load.closed_loop import Load, run_for
from tests.load.http_client import HttpClient
from tests.load.noop.application import FUNCTIONS
from tests.load.noop.server import event_of, noop_server
from tests.load.report import Table, Target
from tests.load.run import Run
from tests.load.samples import Summary

CONCURRENCIES = (1, 8)
MAXIMUM_ADDED_MS = 3.0
MINIMUM_PER_SECOND = 400.0
HEADERS = {"Accept": "application/json", "User-Agent": "events-platform-bench"}

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


async def bench(run: Run) -> None:
    rounds, calls, seconds = (2, 100, 0.5) if run.quick else (6, 250, 1.0)
    async with noop_server(run.directory) as url:
        latencies = await _latencies(url, rounds, calls)
        loads = await _loads(url, rounds, seconds)
    run.report.add(_latency_table(latencies, rounds, calls))
    run.report.add(_load_table(loads, rounds, seconds))


async def _latencies(url: str, rounds: int, calls: int) -> dict[str, dict[str, Summary]]:
    """By function: `direct`, `gateway` and `bare`."""
    timings: dict[str, dict[str, list[float]]] = {name: {"direct": [], "gateway": [], "bare": []} for name in FUNCTIONS}
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, initializer=_give_thread_a_loop) as thread:
        async with HttpClient(url, HEADERS) as client:
            for name in FUNCTIONS:
                event = await event_of(f"/{name}", HEADERS)
                call = partial(load_handler(name), event, SimpleNamespace(aws_request_id="direct"))
                await client.expect(200, "GET", f"/{name}")  # starts its environment
                for _ in range(rounds):
                    timings[name]["direct"] += await loop.run_in_executor(thread, _time_direct, call, calls)
                    for kind, path in (("gateway", f"/{name}"), ("bare", "/bare")):
                        for _ in range(calls):
                            started = time.perf_counter()
                            await client.expect(200, "GET", path)
                            timings[name][kind].append(time.perf_counter() - started)
    return {name: {kind: Summary.of(values) for kind, values in kinds.items()} for name, kinds in timings.items()}


async def _loads(url: str, rounds: int, seconds: float) -> dict[tuple[str, int], Load]:
    """By path and number of clients."""
    loads = {(path, clients): Load() for path in (*FUNCTIONS, "bare") for clients in CONCURRENCIES}
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(HttpClient(url, HEADERS)) for _ in range(max(CONCURRENCIES))]
        for path in FUNCTIONS:  # as many environments as there will be requests at once
            await run_for(0.5, [partial(client.expect, 200, "GET", f"/{path}") for client in connections])
        for _ in range(rounds):
            for (path, clients), load in loads.items():
                operations = [partial(client.expect, 200, "GET", f"/{path}") for client in connections[:clients]]
                load.add(await run_for(seconds, operations))
    return loads


def _give_thread_a_loop() -> None:
    """Mangum runs the application on its thread's event loop, and this thread's own one is running already."""
    asyncio.set_event_loop(asyncio.new_event_loop())


def _time_direct(call: Callable[[], dict[str, Any]], calls: int) -> list[float]:
    """What the handler prints goes nowhere: only the platform has to read it."""
    timings = []
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        for _ in range(calls):
            started = time.perf_counter()
            call()
            timings.append(time.perf_counter() - started)
    return timings


def load_handler(name: str) -> Handler:
    """The handler of a no-op function, imported into this process."""
    function = FUNCTIONS[name]
    specification = importlib.util.spec_from_file_location(f"noop_{name}", function.code / "app.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with _environment(function.environment):
        specification.loader.exec_module(module)
    handler: Handler = module.handler
    return handler


@contextlib.contextmanager
def _environment(variables: Any) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _latency_table(latencies: dict[str, dict[str, Summary]], rounds: int, calls: int) -> Table:
    added = {name: kinds["gateway"].p50 - kinds["direct"].p50 for name, kinds in latencies.items()}
    return Table(
        title="Overhead of gateway and worker, one request at a time",
        columns=["function", "p50 ms", "p95 ms", "direct p50 ms", "bare p50 ms", "added ms"],
        rows=[
            [name, kinds["gateway"].p50, kinds["gateway"].p95, kinds["direct"].p50, kinds["bare"].p50, added[name]]
            for name, kinds in latencies.items()
        ],
        targets=[Target(f"added to {name}", added[name], MAXIMUM_ADDED_MS, "ms") for name in latencies],
        notes=[f"{rounds} turns of {calls} calls each; direct: the same handler with the same event, in-process."],
    )


def _load_table(loads: dict[tuple[str, int], Load], rounds: int, seconds: float) -> Table:
    rows: list[list[Any]] = []
    for (path, clients), load in loads.items():
        if path in FUNCTIONS:
            summary = Summary.of(load.durations)
            rows.append([path, clients, load.per_second, loads["bare", clients].per_second, summary.p50, summary.p95])
    best = {path: max(loads[path, clients].per_second for clients in CONCURRENCIES) for path in FUNCTIONS}
    return Table(
        title="Requests a second through gateway and worker",
        columns=["function", "clients", "requests/s", "bare requests/s", "p50 ms", "p95 ms"],
        rows=rows,
        targets=[
            Target(f"the rate of {path}", rate, MINIMUM_PER_SECOND, "requests/s", at_least=True)
            for path, rate in best.items()
        ],
        notes=[f"{rounds} turns of {seconds:g} s each; clients keep their connections alive and share the cores."],
    )
