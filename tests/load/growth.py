"""Whether registering and listing take longer among 1,000,000 registrations than among 10,000, or far down a list.

Through the service, durably and over one connection, so that what is measured is how long one takes and not who waits
for whom. Both databases are on one server and take turns, and so do the first page and the one at depth 100,000: of an
event's places, where everyone has one, and of a line, where the positions of those who wait have to be known.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from eventsplatform.adapters.postgres import Database
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import NotFoundError
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.pagination import encode_cursor
from eventsplatform.registrations.model import EventFacts, PageQuery
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations, RegistrationStore
from tests.load.report import Table, Target
from tests.load.run import Run
from tests.support.callers import caller
from tests.support.engines import engines_running
from tests.support.many_registrations import CROWDED, HOT, OPEN, ORGANIZER, ManyRegistrations, many_registrations

FEW, MANY = 10_000, 1_000_000
DEPTH = 100_000
MAXIMUM_RATIO = 1.3
PLENTY = 10_000_000

Act = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """The same act where there is little and where there is much."""

    name: str
    small: str
    large: str
    acts: tuple[Act, Act]


async def bench(run: Run) -> None:
    few, many, depth, rounds, times = (2_000, 20_000, 2_000, 2, 10) if run.quick else (FEW, MANY, DEPTH, 10, 100)
    directory = run.directory / "growth"
    directory.mkdir()
    with engines_running(directory, only=frozenset({"postgres"})) as running:
        table = await asyncio.to_thread(_measure, running.endpoints.postgres, few, many, depth, rounds, times)
    run.report.add(table)


def _measure(server: str, few: int, many: int, depth: int, rounds: int, times: int) -> Table:
    with ExitStack() as stack:
        small, large = (stack.enter_context(many_registrations(server, total, told=True)) for total in (few, many))
        in_small, in_large = (stack.enter_context(_service(made)) for made in (small, large))
        comparisons = [
            Comparison(
                "registering",
                f"among {few:,}",
                f"among {many:,}",
                (_registering(in_small, OPEN), _registering(in_large, OPEN)),
            ),
            Comparison(
                "joining a line",
                f"among {few:,}",
                f"among {many:,}",
                (_registering(in_small, CROWDED), _registering(in_large, CROWDED)),
            ),
            Comparison(
                "an event's registrations",
                "first page",
                f"at depth {depth:,}",
                (_listing(in_large, HOT), _listing(in_large, HOT, _cursor(large, HOT, depth))),
            ),
            Comparison(
                "an event's line",
                "first page",
                f"at depth {depth:,}",
                (_listing(in_large, CROWDED), _listing(in_large, CROWDED, _cursor(large, CROWDED, depth))),
            ),
        ]
        return _table(comparisons, _take_turns(comparisons, rounds, times), rounds, times)


def _take_turns(comparisons: Sequence[Comparison], rounds: int, times: int) -> Mapping[str, list[tuple[float, float]]]:
    """The medians of each round, in seconds, of both sides of each comparison."""
    medians: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for comparison in comparisons:
        for act in comparison.acts:
            _durations(act, times)  # plans, pages and code that are needed from now on
    for _ in range(rounds):
        for comparison in comparisons:
            # One by one in turns: what else the machine does slows both sides.
            pairs = [tuple(_durations(act, 1)[0] for act in comparison.acts) for _ in range(times)]
            small, large = zip(*pairs, strict=True)
            medians[comparison.name].append((statistics.median(small), statistics.median(large)))
    return medians


def _durations(act: Act, times: int) -> list[float]:
    durations = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        durations.append(time.perf_counter() - began)
    return durations


def _registering(registrations: Registrations, event_id: int) -> Act:
    newcomers = itertools.count(PLENTY)

    def register() -> None:
        user_id = next(newcomers)
        request = NamedRequest.of(
            caller=str(user_id),
            method="POST",
            path=f"/v1/events/{event_id}/registrations",
            key=str(user_id),
            content=b"",
            secret=False,
        )
        with handling_request(request):
            registrations.register(event_id, caller(user_id))

    return register


def _listing(registrations: Registrations, event_id: int, cursor: str | None = None) -> Act:
    query = PageQuery(cursor=cursor)

    def list_page() -> None:
        page = registrations.of_event(event_id, query, caller(ORGANIZER))
        if len(page.items) != query.limit:
            raise RuntimeError(f"a page of {len(page.items)}")

    return list_page


def _cursor(made: ManyRegistrations, event_id: int, depth: int) -> str:
    """What leads to the page behind so many registrations."""
    with made.connected() as connection:
        row = connection.execute(
            """
            SELECT registered_at, id FROM registrations.event_registrations
             WHERE event_id = %s ORDER BY registered_at, id OFFSET %s LIMIT 1
            """,
            (event_id, depth - 1),
        ).fetchone()
    assert row is not None
    return encode_cursor([row["registered_at"].isoformat(), row["id"]])


class _NoCatalog:
    def describe(self, event_id: int) -> EventFacts:
        raise NotFoundError(f"There is no event {event_id}.")


@contextmanager
def _service(made: ManyRegistrations) -> Iterator[Registrations]:
    with made.connected() as connection:
        for table in ("places", "events"):
            connection.execute(f"UPDATE registrations.{table} SET capacity = %s WHERE event_id = %s", (PLENTY, OPEN))
    database = Database(DatabaseSettings(made.url, "registrations", False))
    try:
        work: UnitOfWork[RegistrationStore] = UnitOfWork(database, PostgresRegistrations, lambda _: None, 4)
        yield Registrations(work, _NoCatalog(), utc_now)
    finally:
        database.close()


def _table(
    comparisons: Sequence[Comparison], medians: Mapping[str, list[tuple[float, float]]], rounds: int, times: int
) -> Table:
    def ratio(name: str) -> float:
        return statistics.median(large / small for small, large in medians[name])

    rows: list[list[str | float]] = []
    for comparison in comparisons:
        small, large = (statistics.median(side) * 1_000 for side in zip(*medians[comparison.name], strict=True))
        rows.append([comparison.name, comparison.small, small, comparison.large, large, ratio(comparison.name)])
    return Table(
        title="Growth",
        columns=["what", "where there is little", "p50 ms", "where there is much", "p50 ms", "ratio"],
        rows=rows,
        targets=[Target(f"{each.name}: the ratio", ratio(each.name), MAXIMUM_RATIO, "") for each in comparisons],
        notes=[f"Medians of {rounds} rounds of {times} each, in turns; one connection, synchronous_commit = on."],
    )
