"""How soon after its commit a change is on NATS, at 200 commits a second, and whether the outbox may grow.

The whole platform as `make dev` runs it. Four processes change people's names through the service, at random moments
that come to 200 a second whatever the platform does (an open loop), and poke the relay through the platform's Lambda
API as endpoints do; over HTTP the requests alone would take a small machine. Everything behind the commit is the
platform's own: the relay and the bridge as functions, Kafka, the mappings, and the other four consumers of these
messages beside the bridge. This process holds a subscription on NATS.

A change left at its commit, which lies between two moments: the call of the service (from which the target is held:
an upper bound) and its return. It arrived when this process held its message.

The same is measured with more and more rows in the outbox that were relayed long ago, each time on a platform of its
own: the embedded broker takes the longer to fetch, the more batches a partition has. The reference is one hop of the
way, Kafka alone, sampled before while nothing else is done.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess

import nats
import orjson
import psycopg
from nats.aio.msg import Msg
from prometheus_client.parser import text_string_to_metric_families

from eventsplatform.adapters.aws import FunctionClient
from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings
from eventsplatform.identity.people import AccountPatch
from eventsplatform.identity.people_repository import PostgresPeople
from eventsplatform.identity.profiles import KnownUser, Profiles, ProfileStore
from eventsplatform.messaging.outbox import RelayPoke, UnitOfWork
from local.application import REGION
from tests.load.engines_alone import produce_to_consume
from tests.load.platform import platform_started, wait_until_idle
from tests.load.report import Cell, Table, Target
from tests.load.run import Run
from tests.load.samples import Summary
from tests.support.callers import caller
from tests.support.database import SHARDS
from tests.support.platform import RunningPlatform
from tests.support.polling import eventually_async

RATE = 200.0
WRITERS = 4
PEOPLE = 400
ROWS = (10_000, 1_000_000)
MAXIMUM_P50_MS = 100.0
MAXIMUM_P99_MS = 1000.0
MAXIMUM_GROWTH = 1.3
ARRIVES_WITHIN_SECONDS = 60.0
RELAY = "RelayOutboxFunction"

# By the id of its message: when a change was begun and done, and when it arrived.
Times = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Phase:
    """With so many rows in the outbox: seconds from begin and from return to NATS, and what the relay was called."""

    rows: int
    from_begin: Summary
    from_return: Summary
    per_second: float
    pokes_per_second: float
    load_average: float


async def bench(run: Run) -> None:
    sizes, warm_up, seconds = ((1_000, 10_000), 2.0, 5.0) if run.quick else (ROWS, 8.0, 40.0)
    samples = 20 if run.quick else 100
    phases = []
    for rows in sizes:
        with platform_started(run.directory / f"relay-{rows}", demo=False) as (platform, _):
            people = _add_people(platform)
            await asyncio.to_thread(_fill_up, platform, rows)
            await asyncio.to_thread(wait_until_idle, platform)
            reference = await produce_to_consume(platform.endpoints["kafka"], samples)
            with _writers(platform, people) as writers:
                await _phase(platform, writers, rows, warm_up)
                phases.append((await _phase(platform, writers, rows, seconds), reference))
    run.report.add(_table(phases, seconds))


def _add_people(platform: RunningPlatform) -> list[int]:
    rows = platform.sql(
        """
        INSERT INTO identity.users (email, password_hash, name, role, permissions, verified_at)
        SELECT 'user' || number || '@example.org', '', 'User ' || number, 'user', '{}', now()
          FROM generate_series(1, %s) AS number
        RETURNING id
        """,
        [PEOPLE],
    )
    return [row["id"] for row in rows]


def _fill_up(platform: RunningPlatform, rows: int) -> None:
    """So many rows in the outbox, the new ones relayed in the course of the last month, with half a KB each."""
    with psycopg.connect(platform.endpoints["postgres"], autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO messaging.outbox (shard, aggregate_type, aggregate_id, version, type, partition_key, payload,
                                          actor_id, traceparent, occurred_at, published_at)
            SELECT number %% 4, 'registration', 1000000000 + number, 1, 'registrations.created', (number %% 500)::text,
                   jsonb_build_object('text', repeat('x', 500)), number, '', moment, moment
              FROM (SELECT number, now() - interval '30 days' * number / %(rows)s AS moment
                      FROM generate_series((SELECT count(*) FROM messaging.outbox) + 1, %(rows)s) AS number) AS made
            """,
            {"rows": rows},
        )
        connection.execute("VACUUM ANALYZE messaging.outbox")
        connection.execute("CHECKPOINT")


# One phase ---------------------------------------------------------------------------------------------------


async def _phase(platform: RunningPlatform, writers: Sequence[Pipe], rows: int, seconds: float) -> Phase:
    arrived: dict[str, float] = {}

    async def note(message: Msg) -> None:
        arrived.setdefault(orjson.loads(message.data)["id"], time.time())

    client = await nats.connect(platform.endpoints["nats"])
    try:
        await client.subscribe("users.updated.*", cb=note)
        await client.flush()
        calls = _relay_calls(platform)
        made = await asyncio.to_thread(_write, writers, seconds)
        load_average = os.getloadavg()[0]

        async def all_arrived() -> bool:
            return made.keys() <= arrived.keys()

        await eventually_async(all_arrived, within=ARRIVES_WITHIN_SECONDS, what="every change on NATS")
    finally:
        await client.close()
    return Phase(
        rows,
        Summary.of([arrived[id_] - begun for id_, (begun, _) in made.items()]),
        Summary.of([arrived[id_] - returned for id_, (_, returned) in made.items()]),
        len(made) / seconds,
        (_relay_calls(platform) - calls) / seconds,
        load_average,
    )


def _relay_calls(platform: RunningPlatform) -> float:
    for family in text_string_to_metric_families(platform.http.get("/metrics").text):
        for sample in family.samples:
            if sample.name == "lambda_invocations_total" and sample.labels["function"] == RELAY:
                return sample.value
    return 0.0


# Writers -----------------------------------------------------------------------------------------------------


@contextmanager
def _writers(platform: RunningPlatform, people: Sequence[int]) -> Iterator[Sequence[Pipe]]:
    context = multiprocessing.get_context("forkserver")
    pipes: list[Pipe] = []
    processes: list[BaseProcess] = []
    try:
        for number in range(WRITERS):
            ours, theirs = context.Pipe()
            arguments = (platform.endpoints, people[number::WRITERS], number, theirs)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            pipes.append(ours)
            processes.append(process)
        for pipe in pipes:
            pipe.recv()
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(10)


def _write(writers: Sequence[Pipe], seconds: float) -> Times:
    for writer in writers:
        writer.send(seconds)
    return {id_: times for writer in writers for id_, times in writer.recv().items()}


def _work(endpoints: Mapping[str, str], people: Sequence[int], number: int, pipe: Pipe) -> None:
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoints["aws"],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }
    database = Database(DatabaseSettings(endpoints["postgres"], "identity", False))
    poke = RelayPoke(FunctionClient(), RELAY)
    work: UnitOfWork[ProfileStore] = UnitOfWork(database, PostgresPeople, poke, SHARDS)
    profiles = Profiles(work, _NoCache(), lambda _: None)
    callers = itertools.cycle([caller(user_id) for user_id in people])
    moments = random.Random(number)
    names = (f"Name {each}" for each in itertools.count())
    profiles.change(AccountPatch(name=next(names)), next(callers))
    pipe.send(None)
    while True:
        try:
            seconds = pipe.recv()
        except EOFError:
            return
        made: Times = {}
        due = time.monotonic()
        end = due + seconds
        while (due := due + moments.expovariate(RATE / WRITERS)) < end:
            time.sleep(max(0.0, due - time.monotonic()))
            begun = time.time()
            account = profiles.change(AccountPatch(name=next(names)), next(callers))
            made[f"user-{account.id}-{account.version}"] = (begun, time.time())
        pipe.send(made)


class _NoCache:
    def get(self, user_id: int) -> KnownUser | None:
        return None

    def put(self, user_id: int, known: KnownUser) -> None: ...


# The table ---------------------------------------------------------------------------------------------------


def _table(phases: Sequence[tuple[Phase, Summary]], seconds: float) -> Table:
    rows: list[Sequence[Cell]] = []
    targets = []
    for phase, kafka in phases:
        begin, back = phase.from_begin, phase.from_return
        figures = (begin.p50, begin.p95, begin.p99, begin.maximum, back.p50, back.p99)
        load = (phase.pokes_per_second, phase.load_average)
        rows.append((f"{phase.rows:,} rows", phase.per_second, *figures, *load, kafka.p50))
        targets.append(Target(f"p50 with {phase.rows} rows", begin.p50, MAXIMUM_P50_MS, "ms"))
        targets.append(Target(f"p99 with {phase.rows} rows", begin.p99, MAXIMUM_P99_MS, "ms"))
    first, last = phases[0][0], phases[-1][0]
    growth = last.from_begin.p50 / first.from_begin.p50
    targets.append(Target(f"p50 with {last.rows} rows to that with {first.rows}", growth, MAXIMUM_GROWTH, ""))
    columns = ["outbox", "commits/s", "p50", "p95", "p99", "max", "p50 from return", "p99 from return"]
    return Table(
        title="From commit to NATS, in ms, as the outbox grows",
        columns=[*columns, "relay calls/s", "load average", "Kafka alone, p50"],
        rows=rows,
        targets=targets,
        notes=[f"{seconds:g} s each, after a warm-up. p50 to max are from the call that commits."],
    )
