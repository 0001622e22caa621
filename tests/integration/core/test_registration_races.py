"""Many at once: they register, cancel, accept and let offers expire, and what is left adds up."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from eventsplatform.adapters.postgres import Connection, Database
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import ConflictError, NotFoundError
from eventsplatform.messaging.model import Recording
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.registrations.lifecycle import NoFreePlaceError
from eventsplatform.registrations.model import EventFacts, Registration
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations, RegistrationStore
from tests.support.callers import caller
from tests.support.database import SHARDS, Services, administrator, services
from tests.support.recount import taken_places, violations

ORGANIZER = 21
PLACES, PEOPLE, CONNECTIONS = 100, 260, 16
SECONDS = 60

StoreFactory = Callable[[Connection], RegistrationStore]


class NoDirectory:
    def describe(self, event_id: int) -> EventFacts:
        raise NotFoundError(f"There is no event {event_id}.")


@dataclass
class Acknowledged:
    """What people have been told, by user: the registration, and whether a cancellation was confirmed."""

    registered: dict[int, Registration] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    accepted: set[int] = field(default_factory=set)
    failures: list[Exception] = field(default_factory=list)


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@contextmanager
def connected(url: str, store: StoreFactory, offer_lifetime: timedelta) -> Iterator[Registrations]:
    database = Database(DatabaseSettings(url, "registrations", False))
    try:
        work: UnitOfWork[RegistrationStore] = UnitOfWork(database, store, lambda _: None, SHARDS)
        yield Registrations(work, NoDirectory(), utc_now, offer_lifetime)
    finally:
        database.close()


def race(
    url: str, event_id: int, store: StoreFactory, *, seed: int = 7, offer_lifetime: timedelta, changing: float = 1.0
) -> Acknowledged:
    """260 people on 16 connections; at random they cancel, accept what they are offered or let it expire."""
    told = Acknowledged()
    waiting = iter(range(1, PEOPLE + 1))
    lock = threading.Lock()
    over = threading.Event()

    def attend(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        try:
            with connected(url, store, offer_lifetime) as registrations:
                while True:
                    with lock:
                        user_id = next(waiting, None)
                    if user_id is None:
                        return
                    told.registered[user_id] = registrations.register(event_id, caller(user_id))
                    if chance.random() < 0.25 * changing:
                        someone = chance.choice(sorted(told.registered))
                        _cancel(registrations, event_id, someone, told)
                    if chance.random() < 0.5 * changing:
                        _accept(registrations, event_id, chance.choice(sorted(told.registered)), told)
        except Exception as error:
            told.failures.append(error)

    def sweep() -> None:
        try:
            with connected(url, store, offer_lifetime) as registrations:
                while not over.wait(0.02):
                    registrations.expire_offers()
        except Exception as error:
            told.failures.append(error)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    threads = [threading.Thread(target=attend, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    over.set()
    sweeper.join(SECONDS)
    return told


def _cancel(registrations: Registrations, event_id: int, user_id: int, told: Acknowledged) -> None:
    try:
        registrations.cancel(event_id, caller(user_id))
        told.cancelled.add(user_id)
    except NotFoundError:
        pass  # cancelled before, or an offer that has expired


def _accept(registrations: Registrations, event_id: int, user_id: int, told: Acknowledged) -> None:
    try:
        registrations.accept(event_id, caller(user_id))
        told.accepted.add(user_id)
    except (ConflictError, NotFoundError):
        pass  # nothing was offered, or not any more


def known_event(running: Services, capacity: int) -> int:
    event_id = running.published_event(ORGANIZER, capacity=capacity)
    running.registrations.learn_events(
        [EventFacts.of_event(running.catalog.describe(event_id).model_dump(mode="json"))]
    )
    return event_id


@pytest.mark.parametrize("seed", range(3))
def test_a_hundred_places_are_taken_and_everyone_else_waits_in_order(
    running: Services, migrated_database: str, seed: int
) -> None:
    event_id = known_event(running, PLACES)

    told = race(
        migrated_database, event_id, PostgresRegistrations, seed=seed, offer_lifetime=timedelta(milliseconds=150)
    )

    # Whoever comes last finds the places that nobody was left to be offered.
    for user_id in range(PEOPLE + 1, PEOPLE + 41):
        told.registered[user_id] = running.registrations.register(event_id, caller(user_id))
    assert told.failures == []
    assert len(told.registered) == PEOPLE + 40
    assert violations(migrated_database, event_id, PLACES) == []
    assert taken_places(migrated_database, event_id) == PLACES
    assert lost(migrated_database, event_id, told) == []


def lost(url: str, event_id: int, told: Acknowledged) -> list[str]:
    """Acknowledged acts that the database does not have."""
    with administrator(url) as connection:
        rows = connection.execute(
            "SELECT id, user_id, status, version FROM registrations.event_registrations WHERE event_id = %s",
            (event_id,),
        ).fetchall()
    kept = {row["user_id"]: row for row in rows}
    found = [f"{user} is not there" for user, each in told.registered.items() if kept[user]["id"] != each.id]
    found += [f"{user} is not cancelled" for user in told.cancelled if kept[user]["status"] != "cancelled"]
    found += [f"{user} was not accepted" for user in told.accepted - told.cancelled if kept[user]["status"] != "active"]
    found += [
        f"{user} lost an active registration"
        for user, each in told.registered.items()
        if each.status == "active" and user not in told.cancelled and kept[user]["status"] != "active"
    ]
    return found


# The controls ------------------------------------------------------------------------------------


class OnlyLooking(PostgresRegistrations):
    """What a store would do that counts how many places are taken, and then takes one."""

    def take_place(
        self, recording: Recording, event_id: int, user_id: int, now: datetime, *, wait: bool
    ) -> Registration:
        row = self._connection.execute(
            """
            SELECT count(*) AS taken FROM registrations.event_registrations
             WHERE event_id = %s AND status = 'active'
            """,
            (event_id,),
        ).fetchone()
        assert row is not None
        if row["taken"] >= PLACES:
            raise NoFreePlaceError(may_have_room=False)
        return self.add_active(event_id, user_id, 0)

    def may_have_room(self, event_id: int, now: datetime) -> bool:
        return False


class WithoutGuard(PostgresRegistrations):
    """A store in which nothing keeps a person from registering twice."""

    numbers = itertools.count(1_000_000)

    def take_place(
        self, recording: Recording, event_id: int, user_id: int, now: datetime, *, wait: bool
    ) -> Registration:
        taken = super().take_place(recording, event_id, next(self.numbers), now, wait=wait)
        self._connection.execute(
            "UPDATE registrations.event_registrations SET user_id = %s WHERE event_id = %s AND user_id >= 1000000",
            (user_id, event_id),
        )
        return taken


def test_a_store_that_only_looks_before_it_takes_is_seen_to_oversell(running: Services, migrated_database: str) -> None:
    event_id = known_event(running, PLACES)

    race(migrated_database, event_id, OnlyLooking, offer_lifetime=timedelta(hours=1), changing=0)

    assert "more places are taken than there are" in violations(migrated_database, event_id, PLACES)


def test_a_store_without_the_guard_is_seen_to_register_someone_twice(running: Services, migrated_database: str) -> None:
    event_id = known_event(running, PLACES)

    with connected(migrated_database, WithoutGuard, timedelta(hours=1)) as registrations:
        people: Sequence[int] = (1, 1)
        for user_id in people:
            registrations.register(event_id, caller(user_id))

    assert "someone has two registrations" in violations(migrated_database, event_id, PLACES)
