from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventsplatform.adapters.postgres import Connection, Database
from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.model import TeamRole, ToldCounts, ToldRegistration
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import ConflictError, ForbiddenError, NotFoundError
from eventsplatform.messaging.model import Recording
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.registrations.lifecycle import NoFreePlaceError
from eventsplatform.registrations.messages import registration_changed
from eventsplatform.registrations.model import Counts, EventFacts, PageQuery, Registration
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations, RegistrationStore
from tests.support.callers import caller
from tests.support.database import SHARDS, Services, administrator, event_in, services

ORGANIZER = 21


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


def test_places_are_taken_until_there_are_none_and_then_the_line_grows(running: Services) -> None:
    event_id = running.published_event(ORGANIZER, capacity=2)

    taken = [running.registrations.register(event_id, caller(user_id)) for user_id in range(1, 6)]

    assert [(registration.status, registration.position) for registration in taken] == [
        ("active", None),
        ("active", None),
        ("waitlisted", 1),
        ("waitlisted", 2),
        ("waitlisted", 3),
    ]


def test_a_message_tells_the_registration_and_the_counts_after_it(running: Services, migrated_database: str) -> None:
    event_id = running.published_event(ORGANIZER, capacity=1)
    first, second = (running.registrations.register(event_id, caller(user_id)) for user_id in (1, 2))

    with administrator(migrated_database) as connection:
        rows = connection.execute(
            """
            SELECT type, partition_key, payload FROM messaging.outbox
             WHERE aggregate_type = 'registration' AND aggregate_id = ANY(%s) ORDER BY id
            """,
            ([first.id, second.id],),
        ).fetchall()

    assert [row["type"] for row in rows] == ["registrations.created", "registrations.waitlisted"]
    assert {row["partition_key"] for row in rows} == {str(event_id)}, "counts must arrive in their order"
    assert [row["payload"]["counts"] for row in rows] == [
        {"registered": 1, "waitlisted": 0, "available": 0, "version": 1, "parts": [counted(0, 1, 0, 1)]},
        {"registered": 1, "waitlisted": 1, "available": 0, "version": 2, "parts": [counted(0, 1, 1, 2)]},
    ]


def test_a_place_taken_in_one_statement_is_told_as_any_other_change_is(
    running: Services, migrated_database: str
) -> None:
    """That statement writes its message itself; what `messages` would have made of it must not be another one."""
    event_id = running.published_event(ORGANIZER, capacity=40)
    registration = running.registrations.register(event_id, caller(11))

    (told,) = messages_of(migrated_database, event_id)

    row = {name: told[name] for name in ("aggregate_type", "aggregate_id", "version", "type", "actor_id")}
    counts = Counts.model_validate(told["payload"]["counts"])
    change = registration_changed(registration, 1, counts, "created", 11)
    assert row == {name: getattr(change, name) for name in row}
    assert (told["partition_key"], told["payload"]) == (change.key, change.data)
    assert (counts.registered, counts.available, len(counts.parts)) == (1, 39, 1)


def messages_of(url: str, event_id: int) -> list[dict[str, Any]]:
    with administrator(url) as connection:
        return connection.execute(
            "SELECT * FROM messaging.outbox WHERE aggregate_type = 'registration' AND partition_key = %s ORDER BY id",
            (str(event_id),),
        ).fetchall()


def test_a_second_registration_of_the_same_person_is_a_conflict_and_changes_no_count(
    running: Services, migrated_database: str
) -> None:
    event_id = running.published_event(ORGANIZER, capacity=2)
    running.registrations.register(event_id, caller(1))

    with pytest.raises(ConflictError, match="already registered"):
        running.registrations.register(event_id, caller(1))

    assert counts(migrated_database, event_id) == {"registered": 1, "waitlisted": 0}


@pytest.mark.parametrize("status", ["cancelled", "completed"])
def test_registration_for_an_event_that_is_over_or_off_is_closed(running: Services, status: str) -> None:
    event_id = running.published_event(ORGANIZER)
    event = running.catalog.describe(event_id).model_copy(update={"status": status, "version": 3})
    running.registrations.learn_events([EventFacts.of_event(event.model_dump(mode="json"))])

    with pytest.raises(ConflictError, match=status):
        running.registrations.register(event_id, caller(1))


def test_registration_closes_when_the_event_starts(migrated_database: str) -> None:
    with services(migrated_database) as running:
        event_id = running.published_event(ORGANIZER)
    with (
        services(migrated_database, clock=lambda: datetime.now(UTC) + timedelta(days=31)) as later,
        pytest.raises(ConflictError, match="started"),
    ):
        later.registrations.register(event_id, caller(1))


def test_a_draft_and_an_event_that_does_not_exist_look_the_same(running: Services) -> None:
    draft = running.catalog.create(event_in(), caller(ORGANIZER))

    for event_id in (draft.id, 2**62):
        with pytest.raises(NotFoundError, match=f"There is no event {event_id}"):
            running.registrations.register(event_id, caller(1))


def test_an_event_that_was_known_as_a_draft_is_open_as_soon_as_it_is_published(running: Services) -> None:
    draft = running.catalog.create(event_in(), caller(ORGANIZER))
    running.registrations.learn_events([EventFacts.of_event(draft.model_dump(mode="json"))])
    running.catalog.publish(draft.id, caller(ORGANIZER))

    assert running.registrations.register(draft.id, caller(1)).status == "active"


def test_a_late_message_about_an_event_does_not_overwrite_a_newer_one(running: Services) -> None:
    event_id = running.published_event(ORGANIZER, capacity=1)
    event = running.catalog.describe(event_id).model_dump(mode="json")

    running.registrations.learn_events([EventFacts.of_event({**event, "version": 3, "status": "cancelled"})])
    running.registrations.learn_events([EventFacts.of_event({**event, "version": 2})])

    with pytest.raises(ConflictError, match="cancelled"):
        running.registrations.register(event_id, caller(1))


def test_learning_an_event_again_leaves_its_counts_alone(running: Services, migrated_database: str) -> None:
    event_id = running.published_event(ORGANIZER, capacity=1)
    running.registrations.register(event_id, caller(1))
    event = running.catalog.describe(event_id).model_dump(mode="json")

    running.registrations.learn_events([EventFacts.of_event({**event, "version": 3, "capacity": 5})])

    assert counts(migrated_database, event_id) == {"registered": 1, "waitlisted": 0}


def test_the_catalog_keeps_the_counts_of_the_latest_message(running: Services) -> None:
    event_id = running.published_event(ORGANIZER, capacity=10)

    running.catalog.learn_counts([told(event_id, 1), told(event_id, 4), told(event_id, 3)])
    running.catalog.learn_counts([told(event_id, 2)])

    event = running.catalog.get(event_id, None)
    assert (event.registered, event.available) == (4, 6)


def counted(part: int, registered: int, waitlisted: int, version: int) -> dict[str, int]:
    return {"number": part, "registered": registered, "waitlisted": waitlisted, "version": version}


def told(event_id: int, registered: int) -> ToldRegistration:
    counts = ToldCounts(registered=registered, waitlisted=0, version=registered)
    return ToldRegistration(event_id=event_id, counts=counts)


# Many at once ------------------------------------------------------------------------------------

PEOPLE, PLACES, THREADS = 60, 20, 16

StoreFactory = Callable[[Connection], RegistrationStore]


class WithoutLock(PostgresRegistrations):
    """What a store would do that only reads how many places are left."""

    def take_place(
        self, recording: Recording, event_id: int, user_id: int, now: datetime, *, wait: bool
    ) -> Registration:
        if not self.may_have_room(event_id, now):
            raise NoFreePlaceError(may_have_room=False)
        # Everyone has read before anyone writes, as it happens under load.
        RACE.wait(timeout=10)
        return self.add_active(event_id, user_id, 0)


RACE = threading.Barrier(THREADS)


def register_at_once(
    url: str, event_id: int, store: StoreFactory, people: int
) -> tuple[list[Registration], list[Exception]]:
    """`people` register over 16 connections of their own; what they got, and what went wrong."""
    waiting = iter(range(1, people + 1))
    lock = threading.Lock()
    got: list[Registration] = []
    failures: list[Exception] = []

    def register() -> None:
        database = Database(DatabaseSettings(url, "registrations", False))
        work: UnitOfWork[RegistrationStore] = UnitOfWork(database, store, lambda _: None, SHARDS)
        registrations = Registrations(work, NoDirectory(), utc_now)
        try:
            while True:
                with lock:
                    user_id = next(waiting, None)
                if user_id is None:
                    return
                got.append(registrations.register(event_id, caller(user_id)))
        except Exception as error:
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=register) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got, failures


class NoDirectory:
    def describe(self, event_id: int) -> EventFacts:
        raise NotFoundError(f"There is no event {event_id}.")


def known_event(running: Services) -> int:
    event_id = running.published_event(ORGANIZER, capacity=PLACES)
    running.registrations.learn_events(
        [EventFacts.of_event(running.catalog.describe(event_id).model_dump(mode="json"))]
    )
    return event_id


def counts(url: str, event_id: int) -> dict[str, int]:
    with administrator(url) as connection:
        row = connection.execute(
            """
            SELECT sum(taken)::int AS registered, sum(waiting)::int AS waitlisted
              FROM registrations.places WHERE event_id = %s
            """,
            (event_id,),
        ).fetchone()
    assert row is not None
    return row


def test_sixty_people_racing_for_twenty_places_get_twenty_and_a_line_of_forty(
    running: Services, migrated_database: str
) -> None:
    event_id = known_event(running)

    got, failures = register_at_once(migrated_database, event_id, PostgresRegistrations, PEOPLE)

    assert failures == []
    assert Counter(registration.status for registration in got) == {"active": PLACES, "waitlisted": PEOPLE - PLACES}
    line = sorted((r for r in got if r.status == "waitlisted"), key=lambda r: r.position or 0)
    assert [registration.position for registration in line] == list(range(1, PEOPLE - PLACES + 1))
    assert [registration.id for registration in line] == sorted(registration.id for registration in line)
    assert counts(migrated_database, event_id) == {"registered": PLACES, "waitlisted": PEOPLE - PLACES}


def test_the_latest_counts_of_each_part_add_up_to_a_recount_in_whatever_order_they_are_read(
    running: Services, migrated_database: str
) -> None:
    event_id = known_event(running)
    register_at_once(migrated_database, event_id, PostgresRegistrations, PEOPLE)
    told = messages_about(migrated_database, event_id)
    random.Random(7).shuffle(told)

    for each in told:
        running.catalog.learn_counts([each])

    event = running.catalog.get(event_id, None)
    assert {"registered": event.registered, "waitlisted": event.waitlisted} == counts(migrated_database, event_id)


def test_no_message_alone_knows_what_was_under_way_at_the_same_time(running: Services, migrated_database: str) -> None:
    """The control: of totals alone, as each change saw them, no version would be the last."""
    event_id = known_event(running)
    register_at_once(migrated_database, event_id, PostgresRegistrations, PEOPLE)

    versions = [each.counts.version for each in messages_about(migrated_database, event_id)]

    assert len(set(versions)) < len(versions)


def messages_about(url: str, event_id: int) -> list[ToldRegistration]:
    with administrator(url) as connection:
        rows = connection.execute(
            """
            SELECT payload FROM messaging.outbox
             WHERE aggregate_type = 'registration' AND partition_key = %s ORDER BY id
            """,
            (str(event_id),),
        ).fetchall()
    return [ToldRegistration.model_validate(row["payload"]) for row in rows]


def test_without_the_lock_the_same_race_oversells(running: Services, migrated_database: str) -> None:
    """The control: a race that a store without the lock survived would prove nothing about the lock."""
    event_id = running.published_event(ORGANIZER, capacity=1)
    running.registrations.learn_events(
        [EventFacts.of_event(running.catalog.describe(event_id).model_dump(mode="json"))]
    )

    got, failures = register_at_once(migrated_database, event_id, WithoutLock, THREADS)

    assert failures == []
    assert sum(registration.status == "active" for registration in got) > 1


def test_what_the_catalog_tells_of_an_event_is_known_here_to_the_word(running: Services) -> None:
    event_id = running.published_event(ORGANIZER)
    running.teams.put(event_id, 2, "check_in", caller(ORGANIZER))
    told = facts_of(running.catalog.describe(event_id))

    running.registrations.learn_events([EventFacts.of_event(told)])

    known = running.registrations.facts_of([event_id])[event_id].model_dump(mode="json")
    assert {name: value for name, value in told.items() if name in known} == known
    assert told.keys() - known.keys() == {"price"}


def test_an_event_that_an_earlier_release_knew_is_asked_for_when_more_of_it_is_needed(
    running: Services, migrated_database: str
) -> None:
    event_id = known_event(running)
    with administrator(migrated_database) as connection:
        connection.execute("UPDATE registrations.events SET facts = NULL WHERE event_id = %s", (event_id,))

    asked = running.registrations.facts_of([event_id])

    assert asked[event_id].title == running.catalog.describe(event_id).title
    with administrator(migrated_database) as connection:
        row = connection.execute(
            "SELECT facts->>'title' AS title FROM registrations.events WHERE event_id = %s", (event_id,)
        ).fetchone()
    assert row == {"title": asked[event_id].title}


@pytest.mark.parametrize("role", ["manager", "check_in"])
def test_the_whole_team_sees_who_has_registered_and_nobody_else(running: Services, role: TeamRole) -> None:
    event_id = running.published_event(ORGANIZER)
    registration = running.registrations.register(event_id, caller(1))
    running.teams.put(event_id, 2, role, caller(ORGANIZER))
    running.registrations.learn_events([EventFacts.of_event(facts_of(running.catalog.describe(event_id)))])

    page = running.registrations.of_event(event_id, PageQuery(), caller(2))

    assert page.items == [registration]
    with pytest.raises(ForbiddenError):
        running.registrations.of_event(event_id, PageQuery(), caller(3))
