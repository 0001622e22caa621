"""How many core operations a second go through the whole platform, with the demo data in it.

Closed loop with four clients that share the cores with the platform; each operation in turns with its references:
a no-op function behind the same gateway and workers, and `SELECT 1` on the same Postgres from this process.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

import psycopg

from tests.load.closed_loop import Load, Operation, run_for
from tests.load.http_client import Answer, HttpClient
from tests.load.noop.server import noop_server
from tests.load.platform import demo_platform
from tests.load.report import Table
from tests.load.run import Run
from tests.load.samples import Summary
from tests.support.platform import RunningPlatform

CLIENTS = 4
# Of each client, to be within the limit on registrations at 170 a second.
ACCOUNTS = 6
WORDS = ("jazz", "workshop", "berlin", "python", "night", "yoga", "food", "startup", "run", "gallery")

NOOP, SELECT = "no-op function", "SELECT 1"


async def bench(run: Run) -> None:
    rounds, seconds = (1, 0.5) if run.quick else (4, 2.0)
    with demo_platform(run) as platform:
        async with AsyncExitStack() as stack:
            noop = await stack.enter_async_context(noop_server(run.directory))
            operations = await _operations(platform, noop, stack)
            loads = await _loads(operations, rounds, seconds)
    run.report.add(_table(loads, rounds, seconds))


class Visitor:
    """Reads and searches at random, repeatably, and registers one account after the other."""

    def __init__(self, number: int, client: HttpClient, accounts: Sequence[HttpClient], events: Sequence[int]) -> None:
        """`client` is signed in as nobody, each of `accounts` as somebody else."""
        self._choice = random.Random(number)
        self._client = client
        self._events = events
        # Nobody can register for an event twice, or for more than so many events in a minute.
        self._unregistered = itertools.cycle([(each, self._choice.sample(events, len(events))) for each in accounts])

    async def read(self) -> Answer:
        return await self._client.expect(200, "GET", f"/v1/events/{self._choice.choice(self._events)}")

    async def search(self) -> Answer:
        return await self._client.expect(200, "GET", f"/v1/search/events?q={self._choice.choice(WORDS)}")

    async def register(self) -> Answer:
        account, events = next(self._unregistered)
        return await account.expect(201, "POST", f"/v1/events/{events.pop()}/registrations")


async def _operations(platform: RunningPlatform, noop: str, stack: AsyncExitStack) -> dict[str, list[Operation]]:
    """What each of the clients does, by name."""
    rows = platform.sql("SELECT id FROM catalog.events WHERE status = 'published' AND starts_at > now() ORDER BY id")
    events = [row["id"] for row in rows]
    visitors, idlers, connections = [], [], []
    for number in range(CLIENTS):
        client, *accounts = [
            await stack.enter_async_context(HttpClient(platform.endpoints["gateway"], headers))
            for headers in ({}, *(platform.sign_up(f"Client {number}").headers for _ in range(ACCOUNTS)))
        ]
        visitors.append(Visitor(number, client, accounts, events))
        idlers.append(await stack.enter_async_context(HttpClient(noop)))
        connection = await psycopg.AsyncConnection.connect(platform.endpoints["postgres"], autocommit=True)
        connections.append(await stack.enter_async_context(connection))
    return {
        "GET event": [visitor.read for visitor in visitors],
        "search": [visitor.search for visitor in visitors],
        "POST registration": [visitor.register for visitor in visitors],
        NOOP: [partial(idler.expect, 200, "GET", "/http") for idler in idlers],
        SELECT: [partial(connection.execute, "SELECT 1") for connection in connections],
    }


async def _loads(operations: dict[str, list[Operation]], rounds: int, seconds: float) -> dict[str, Load]:
    loads = {name: Load() for name in operations}
    for clients in operations.values():
        await run_for(0.5, clients)  # starts as many environments as there will be requests at once
    for _ in range(rounds):
        for name, clients in operations.items():
            loads[name].add(await run_for(seconds, clients))
    return loads


def _table(loads: dict[str, Load], rounds: int, seconds: float) -> Table:
    rows: list[list[str | float]] = []
    for name, load in loads.items():
        if name not in (NOOP, SELECT):
            summary = Summary.of(load.durations)
            rows.append(
                [name, load.per_second, summary.p50, summary.p95, loads[NOOP].per_second, loads[SELECT].per_second]
            )
    return Table(
        title="Core operations through the platform",
        columns=["operation", "per second", "p50 ms", "p95 ms", f"{NOOP} per second", f"{SELECT} per second"],
        rows=rows,
        notes=[f"{CLIENTS} clients, {rounds} turns of {seconds:g} s each; for information."],
    )
