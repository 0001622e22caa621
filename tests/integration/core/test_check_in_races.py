"""Many devices scan at once: each ticket lets in once, everyone else is told who and when, and it all adds up."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import pytest

from eventsplatform.adapters.postgres import Connection, Database
from eventsplatform.clock import rfc3339, utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import ConflictError, NotFoundError
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.registrations.admission.check_ins import CheckIns
from eventsplatform.registrations.admission.model import Attendance, CheckIn, DoorQuery
from eventsplatform.registrations.admission.repository import PostgresAdmission
from eventsplatform.registrations.model import HeldRegistration
from eventsplatform.registrations.repository import PostgresRegistrations, registration_of
from tests.integration.core.test_registration_races import connected
from tests.support.callers import caller
from tests.support.database import SHARDS, Services, administrator, services
from tests.support.doors import by_list, offline, project, ticket
from tests.support.polling import eventually
from tests.support.recount import violations

ORGANIZER, ADA = 81, 91
DEVICES = 64
SECONDS = 60

StoreFactory = Callable[[Connection], PostgresAdmission]


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@contextmanager
def device(url: str, store: StoreFactory = PostgresAdmission) -> Iterator[CheckIns]:
    """A function's environment of its own."""
    database = Database(DatabaseSettings(url, "registrations", False))
    try:
        work: UnitOfWork[PostgresAdmission] = UnitOfWork(database, store, lambda _: None, SHARDS)
        yield CheckIns(work, _nothing_to_learn, utc_now)
    finally:
        database.close()


def _nothing_to_learn(event_id: int) -> None:
    raise NotFoundError(f"There is no event {event_id}.")


def at_once(acts: Sequence[Callable[[], object]]) -> list[Any]:
    """What each of them comes to, all beginning together. Raises what one of them has raised."""
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> object:
        start.wait(SECONDS)
        return act()

    with ThreadPoolExecutor(len(acts)) as threads:
        return [each.result(SECONDS) for each in [threads.submit(run, act) for act in acts]]


def known_event(running: Services, *people: int) -> tuple[int, list[int]]:
    event_id = running.published_event(ORGANIZER, capacity=100)
    project(running, event_id)
    return event_id, [running.registrations.register(event_id, caller(person)).id for person in people]


def scanned_by_all(url: str, event_id: int, token: str, store: StoreFactory = PostgresAdmission) -> list[CheckIn | str]:
    """What each of the devices was told: the check-in, or why not."""

    def scan(check_ins: CheckIns) -> CheckIn | str:
        try:
            return check_ins.check_in(event_id, ticket(token), caller(ORGANIZER))
        except ConflictError as refused:
            return refused.detail

    with ExitStack() as stack:
        devices = [stack.enter_context(device(url, store)) for _ in range(DEVICES)]
        return at_once([partial(scan, each) for each in devices])


def test_of_64_who_scan_one_ticket_one_lets_in_and_63_are_told_who_and_when(
    running: Services, migrated_database: str
) -> None:
    event_id, (registration_id,) = known_event(running, ADA)
    token = running.tickets.of(registration_id, caller(ADA)).token

    told = scanned_by_all(migrated_database, event_id, token)

    (winner,) = [each for each in told if isinstance(each, CheckIn)]
    losers = [each for each in told if isinstance(each, str)]
    assert losers == [f"Already checked in at {rfc3339(winner.checked_in_at)} by user {ORGANIZER}."] * (DEVICES - 1)
    assert violations(migrated_database, event_id, 100) == []


class OnlyLooking(PostgresAdmission):
    """What a store would do that looks whether someone is in, and then lets them in: all of them look first."""

    all_have_looked = threading.Barrier(DEVICES)

    def lock_attendances(self, event_id: int, registration_ids: Sequence[int]) -> dict[int, Attendance]:
        rows = self._connection.execute(
            "SELECT * FROM registrations.event_registrations WHERE id = ANY(%s) AND status = 'active'",
            (list(registration_ids),),
        ).fetchall()
        self.all_have_looked.wait(SECONDS)
        return {
            row["id"]: Attendance(registration_of(row), row["version"], row["part"], None, check_ins=[]) for row in rows
        }

    def check_in(self, event_id: int, admitted: Sequence[Attendance]) -> tuple[list[Attendance], int]:
        (attendance,) = admitted
        row = self._connection.execute(
            """
            UPDATE registrations.event_registrations SET status = 'checked_in', version = version + 1
             WHERE id = %s
            RETURNING *
            """,
            (attendance.registration.id,),
        ).fetchone()
        assert row is not None
        return [replace(attendance, registration=registration_of(row), version=row["version"])], 1


def test_a_store_that_only_looks_before_it_lets_in_is_seen_to_let_in_twice(
    running: Services, migrated_database: str
) -> None:
    """The control."""
    event_id, (registration_id,) = known_event(running, ADA)
    token = running.tickets.of(registration_id, caller(ADA)).token

    told = scanned_by_all(migrated_database, event_id, token, OnlyLooking)

    assert len([each for each in told if isinstance(each, CheckIn)]) == DEVICES
    assert violations(migrated_database, event_id, 100) != []


def test_lists_of_scans_that_overlap_wait_for_each_other_and_never_in_a_circle(
    running: Services, migrated_database: str
) -> None:
    people = range(100, 140)
    event_id, ids = known_event(running, *people)
    tokens = [running.tickets.of(id_, caller(person)).token for id_, person in zip(ids, people, strict=True)]

    def sync(number: int) -> list[str]:
        scans = [offline(token, utc_now()) for token in random.Random(number).sample(tokens, len(tokens))]
        with device(migrated_database) as check_ins:
            return [each.outcome for each in check_ins.sync(event_id, scans, caller(ORGANIZER)).items]

    outcomes = list(chain.from_iterable(at_once([partial(sync, number) for number in range(8)])))

    assert outcomes.count("checked_in") == len(ids)
    assert outcomes.count("already_checked_in") == 7 * len(ids)
    assert violations(migrated_database, event_id, 100) == []


def test_a_device_that_asks_while_others_scan_misses_nothing(running: Services, migrated_database: str) -> None:
    event_id, ids = known_event(running, *range(100, 148))
    over = threading.Event()

    def scan(part: list[int]) -> None:
        with device(migrated_database) as check_ins:
            for registration_id in part:
                check_ins.check_in(event_id, by_list(registration_id), caller(ORGANIZER))

    def listen() -> list[int]:
        learnt: list[int] = []
        since, is_last = 0, False
        with device(migrated_database) as check_ins:
            while not is_last:
                is_last = over.is_set()
                bundle = check_ins.bundle(event_id, DoorQuery(since=since), caller(ORGANIZER))
                learnt += [each.registration_id for each in bundle.check_ins]
                since = bundle.until
        return learnt

    with ThreadPoolExecutor(1) as thread:
        listening = thread.submit(listen)
        at_once([partial(scan, ids[first::8]) for first in range(8)])
        over.set()

        assert sorted(listening.result(SECONDS)) == ids, "each of them, and once"


# Someone cancels while being checked in ----------------------------------------------------------


class Interrupted(PostgresRegistrations):
    """Something happens between the look at a registration and its cancellation."""

    interruption: ClassVar[Callable[[], None]]

    def find_held(self, event_id: int, user_id: int) -> HeldRegistration | None:
        held = self.look(event_id, user_id)
        type(self).interruption()
        return held

    def look(self, event_id: int, user_id: int) -> HeldRegistration | None:
        return super().find_held(event_id, user_id)


class InterruptedWithoutLock(Interrupted):
    def look(self, event_id: int, user_id: int) -> HeldRegistration | None:
        row = self._connection.execute(
            "SELECT * FROM registrations.event_registrations WHERE event_id = %s AND user_id = %s", (event_id, user_id)
        ).fetchone()
        assert row is not None
        return HeldRegistration(registration_of(row), row["version"], row["part"], row["ticket"])


def cancelled_while_checked_in(
    running: Services, url: str, store: type[Interrupted], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """What is wrong after that; the check-in has ended, or waits, before the cancellation goes on."""
    event_id, (registration_id,) = known_event(running, ADA)

    def check_in() -> None:
        with device(url) as check_ins, suppress(ConflictError):
            check_ins.check_in(event_id, by_list(registration_id), caller(ORGANIZER))

    with ThreadPoolExecutor(1) as thread, connected(url, store, timedelta(hours=1)) as registrations:

        def interrupt() -> None:
            checking = thread.submit(check_in)
            eventually(
                lambda: checking.done() or somebody_waits(url), within=SECONDS, what="the check-in to end or wait"
            )

        monkeypatch.setattr(store, "interruption", interrupt, raising=False)
        registrations.cancel(event_id, caller(ADA))
    return violations(url, event_id, 100)


def somebody_waits(url: str) -> bool:
    with administrator(url) as connection:
        query = "SELECT FROM pg_stat_activity WHERE usename = 'registrations' AND wait_event_type = 'Lock'"
        return connection.execute(query).fetchone() is not None


def test_whoever_cancels_while_being_checked_in_is_either_in_or_gone(
    running: Services, migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cancelled_while_checked_in(running, migrated_database, Interrupted, monkeypatch) == []


def test_without_the_lock_someone_who_is_in_would_be_cancelled(
    running: Services, migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    found = cancelled_while_checked_in(running, migrated_database, InterruptedWithoutLock, monkeypatch)

    assert "who has come is not who is checked in" in found
