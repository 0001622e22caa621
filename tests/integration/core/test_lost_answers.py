"""Every fourth answer of the database is lost after the commit, and 400 people register until they are answered."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from eventsplatform.adapters.postgres import Database
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import ConflictError, DependencyUnavailableError, NotFoundError
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.operations.migrate import migrate
from eventsplatform.registrations.model import EventFacts, Registration
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations, RegistrationStore
from local.engines import Endpoints
from tests.support.callers import caller
from tests.support.database import SHARDS, administrator, services
from tests.support.recount import taken_places, violations
from tests.support.tcp_proxy import Cuts, cut_off

PEOPLE, PLACES, CONNECTIONS = 400, 100, 8
LOST = 0.25
# A statement is over and with it its transaction: CommandComplete, and ReadyForQuery with nothing open.
COMPLETE, READY = b"C\x00\x00\x00", b"Z\x00\x00\x00\x05I"

Name = Callable[[int], NamedRequest | None]


@dataclass
class Told:
    """What people were answered in the end, and whom a refusal told that they had registered before."""

    registered: dict[int, Registration] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    failures: list[Exception] = field(default_factory=list)


class NoDirectory:
    def describe(self, event_id: int) -> EventFacts:
        raise NotFoundError(f"There is no event {event_id}.")


@pytest.fixture(scope="module")
def database(endpoints: Endpoints) -> Iterator[str]:
    """One of its own: a control takes the guard out of it."""
    name = sql.Identifier("lost_answers")
    with psycopg.connect(endpoints.postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    url = make_conninfo(endpoints.postgres, dbname="lost_answers")
    migrate(url)
    yield url
    with psycopg.connect(endpoints.postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def event(database: str) -> int:
    """With places for a quarter of the people: the others wait in line."""
    with services(database) as running:
        event_id = running.published_event(21, capacity=PLACES)
        running.registrations.facts_of([event_id])
    return event_id


def register_all(url: str, event_id: int, name: Name) -> tuple[Told, int]:
    """What everyone is told who repeats until answered, and how many answers were lost."""
    dice = random.Random(7)
    cuts = Cuts(answer=lambda data: COMPLETE in data and data.endswith(READY) and dice.random() < LOST)
    told = Told()
    people = iter(range(1, PEOPLE + 1))
    turn = threading.Lock()

    def come(proxied: str) -> None:
        database = Database(DatabaseSettings(proxied, "registrations", False))
        work: UnitOfWork[RegistrationStore] = UnitOfWork(database, PostgresRegistrations, lambda _: None, SHARDS)
        registrations = Registrations(work, NoDirectory(), utc_now)
        try:
            while True:
                with turn:
                    person = next(people, None)
                if person is None:
                    return
                _register(registrations, event_id, person, name, told)
        except Exception as error:
            told.failures.append(error)
        finally:
            database.close()

    with cut_off(url, cuts) as proxied:
        threads = [threading.Thread(target=come, args=(proxied,)) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert told.failures == []
    assert told.registered.keys() | told.refused == set(range(1, PEOPLE + 1))
    return told, cuts.made


def _register(registrations: Registrations, event_id: int, person: int, name: Name, told: Told) -> None:
    while True:
        try:
            with handling_request(name(person)):
                told.registered[person] = registrations.register(event_id, caller(person))
        except DependencyUnavailableError:
            time.sleep(0.02)  # as Retry-After asks, only sooner
            continue
        except ConflictError:
            told.refused.add(person)
        return


def registrations_of(url: str, event_id: int) -> Counter[int]:
    """How many each person has."""
    with administrator(url) as connection:
        rows = connection.execute(
            "SELECT user_id FROM registrations.event_registrations WHERE event_id = %s", (event_id,)
        ).fetchall()
    return Counter(row["user_id"] for row in rows)


def test_with_a_key_everyone_has_one_registration_and_is_told_of_it(database: str, event: int) -> None:
    run = str(uuid4())

    def name(person: int) -> NamedRequest:
        path = f"/v1/events/{event}/registrations"
        return NamedRequest.of(
            caller=str(person), method="POST", path=path, key=f"{run}-{person}", content=b"", secret=False
        )

    told, lost = register_all(database, event, name)

    assert lost > PEOPLE * LOST / 2
    assert told.refused == set()
    assert registrations_of(database, event) == Counter(range(1, PEOPLE + 1))
    assert violations(database, event, PLACES) == []
    assert taken_places(database, event) == PLACES
    with administrator(database) as connection:
        kept = connection.execute(
            "SELECT id, user_id, status FROM registrations.event_registrations WHERE event_id = %s", (event,)
        ).fetchall()
    assert {(row["user_id"], row["id"], row["status"]) for row in kept} == {
        (person, each.id, each.status) for person, each in told.registered.items()
    }


def test_with_the_guard_alone_many_are_refused_what_they_have(database: str, event: int) -> None:
    """The first control: that nobody has two registrations does not tell who lost an answer that they have one."""
    told, _ = register_all(database, event, lambda _: None)

    print(f"{len(told.refused)} of {PEOPLE} were told that they had registered before")
    assert told.refused != set()
    assert registrations_of(database, event) == Counter(range(1, PEOPLE + 1))


def test_with_neither_many_have_two(database: str, event: int) -> None:
    """The second control: the answers were lost indeed, and the registrations were there."""
    with administrator(database) as connection:
        connection.execute("ALTER TABLE registrations.holders DROP CONSTRAINT one_registration_per_person")

    told, _ = register_all(database, event, lambda _: None)

    duplicates = registrations_of(database, event).total() - PEOPLE
    print(f"{duplicates} registrations too many")
    assert told.refused == set()
    assert duplicates > 0
    assert "someone has two registrations" in violations(database, event, PLACES)
