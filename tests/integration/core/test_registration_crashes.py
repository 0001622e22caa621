"""Workers are killed and Postgres crashes in the middle of a race: nothing that was acknowledged is missing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess

import pytest

from eventsplatform.adapters.postgres import Database
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import DependencyUnavailableError, NotFoundError
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.operations.migrate import migrate
from eventsplatform.registrations.model import EventFacts
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations, RegistrationStore
from tests.support.callers import caller
from tests.support.database import SHARDS, administrator, services
from tests.support.engines import RunningEngines, engines_running
from tests.support.polling import eventually
from tests.support.recount import taken_places, violations

PLACES, WORKERS, PEOPLE_EACH = 100, 8, 40


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngines]:
    with engines_running(tmp_path_factory.mktemp("mortal"), only=frozenset({"postgres"})) as running:
        migrate(running.endpoints.postgres)
        yield running


class NoDirectory:
    def describe(self, event_id: int) -> EventFacts:
        raise NotFoundError(f"There is no event {event_id}.")


def register_people(url: str, event_id: int, people: range, told: Pipe) -> None:
    """In a process of its own: each person registers until they are answered, as a client does with its key."""
    database = Database(DatabaseSettings(url, "registrations", False))
    work: UnitOfWork[RegistrationStore] = UnitOfWork(database, PostgresRegistrations, lambda _: None, SHARDS)
    registrations = Registrations(work, NoDirectory(), utc_now)
    for user_id in people:
        while True:
            request = NamedRequest.of(
                caller=str(user_id), method="POST", path="/", key=f"key-{user_id}", content=b"", secret=False
            )
            try:
                with handling_request(request):
                    registration = registrations.register(event_id, caller(user_id))
            except DependencyUnavailableError:
                time.sleep(0.05)  # as Retry-After asks, only sooner
                continue
            told.send((user_id, registration.id, registration.status))
            break
    told.close()


def start(url: str, event_id: int, people: range) -> tuple[BaseProcess, Pipe]:
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=register_people, args=(url, event_id, people, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def answers(pipe: Pipe) -> Iterator[tuple[int, int, str]]:
    """What a worker was told, until it ends or is killed."""
    while True:
        try:
            yield pipe.recv()
        except (EOFError, OSError):
            return


def registered(url: str, event_id: int) -> int:
    with administrator(url) as connection:
        row = connection.execute(
            "SELECT count(*) AS number FROM registrations.event_registrations WHERE event_id = %s", (event_id,)
        ).fetchone()
    assert row is not None
    return int(row["number"])


def test_killed_workers_and_a_crash_of_postgres_lose_and_oversell_nothing(mortal: RunningEngines) -> None:
    url = mortal.endpoints.postgres
    with services(url) as running:
        event_id = running.published_event(21, capacity=PLACES)
        event = running.catalog.describe(event_id).model_dump(mode="json")
        running.registrations.learn_events([EventFacts.of_event(event)])
    shares = [range(1_000 * number, 1_000 * number + PEOPLE_EACH) for number in range(1, WORKERS + 1)]
    workers = [start(url, event_id, share) for share in shares]
    try:
        # In the middle of it two workers are killed, and then the server
        eventually(lambda: registered(url, event_id) >= 40, within=60, every=0.02, what="a race under way")
        for process, _ in workers[:2]:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        mortal.kill("postgres")
        told = [each for _, pipe in workers for each in answers(pipe)]
    finally:
        for process, _ in workers:
            process.kill()
            process.join(10)

    # Then the rest were answered, and the same requests of those who were cut off are answered once more
    assert {user for user, _, _ in told} >= {user for share in shares[2:] for user in share}
    for share in shares[:2]:
        process, pipe = start(url, event_id, share)
        told += answers(pipe)
        process.join(10)
    assert violations(url, event_id, PLACES) == []
    assert taken_places(url, event_id) == PLACES
    with administrator(url) as connection:
        rows = connection.execute(
            "SELECT user_id, id, status FROM registrations.event_registrations WHERE event_id = %s", (event_id,)
        ).fetchall()
    kept = {(row["user_id"], row["id"], row["status"]) for row in rows}
    assert set(told) == kept, "each person has the one registration that they were told of"
    assert len(kept) == WORKERS * PEOPLE_EACH
