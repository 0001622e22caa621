"""Who changed what of an event, and the event as it was, on a real database."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventsplatform.catalog.model import EventPatch, HistoryEntry, HistoryQuery
from eventsplatform.clock import utc_now
from eventsplatform.errors import ForbiddenError, InvalidInputError, NotFoundError
from eventsplatform.identity.caller import Caller
from tests.support.callers import caller
from tests.support.database import Services, administrator, event_in, services
from tests.support.people import People, people, rows

_people = itertools.count(6_200_000)


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@pytest.fixture
def forgetting(migrated_database: str) -> Iterator[People]:
    with people(migrated_database) as built:
        yield built


@pytest.fixture
def owner() -> Caller:
    return caller(next(_people))


def page(services: Services, event_id: int, who: Caller, **query: Any) -> list[HistoryEntry]:
    return services.history.page(event_id, HistoryQuery(**query), who).items


def changed(entry: HistoryEntry) -> dict[str, tuple[Any, Any]]:
    assert entry.changes is not None
    return {each.field: (each.before, each.after) for each in entry.changes}


def told_at(url: str, event_id: int) -> dict[int, datetime]:
    """When each version of the event was recorded."""
    query = "SELECT version, occurred_at FROM messaging.outbox WHERE aggregate_type = 'event' AND aggregate_id = %s"
    return {row["version"]: row["occurred_at"] for row in rows(url, query, event_id)}


def test_each_change_says_who_made_it_and_what_it_changed(running: Services, owner: Caller) -> None:
    manager = caller(next(_people))
    draft = running.catalog.create(event_in(title="A concert"), owner)
    running.catalog.publish(draft.id, owner)
    running.teams.put(draft.id, manager.user_id, "manager", owner)
    running.catalog.change(draft.id, EventPatch(title="A loud concert", tags=["rock"]), manager)
    running.catalog.cancel(draft.id, "Rain", owner)

    cancelled, patched, joined, published, created = page(running, draft.id, owner)

    assert [entry.version for entry in (created, published, joined, patched, cancelled)] == [1, 2, 3, 4, 5]
    assert changed(cancelled) == {"status": ("published", "cancelled"), "cancellation_reason": (None, "Rain")}
    assert changed(patched) == {"title": ("A concert", "A loud concert"), "tags": (["jazz"], ["rock"])}
    assert changed(joined) == {"team": ([], [{"user_id": manager.user_id, "role": "manager"}])}
    assert changed(published) == {"status": ("draft", "published")}
    assert changed(created)["title"] == (None, "A concert")
    assert [entry.type for entry in (created, patched)] == ["events.created", "events.updated"]
    assert patched.actor is not None
    assert (patched.actor.id, patched.actor.name) == (manager.user_id, f"User {manager.user_id}")
    assert page(running, draft.id, manager) == page(running, draft.id, owner)


def test_pages_join_without_a_gap_and_each_change_knows_the_one_before(running: Services, owner: Caller) -> None:
    event_id = running.catalog.create(event_in(title="Title 1"), owner).id
    for number in range(2, 8):
        running.catalog.change(event_id, EventPatch(title=f"Title {number}"), owner)
    whole = page(running, event_id, owner)

    entries: list[HistoryEntry] = []
    cursor = None
    for _ in range(4):
        answer = running.history.page(event_id, HistoryQuery(limit=2, cursor=cursor), owner)
        entries += answer.items
        cursor = answer.next_cursor

    assert entries == whole
    assert cursor is None
    assert changed(entries[1]) == {"title": ("Title 5", "Title 6")}


def test_the_event_as_it_was_has_the_state_and_the_counts_of_that_time(
    running: Services, owner: Caller, migrated_database: str
) -> None:
    first, second, third = (caller(next(_people)) for _ in range(3))
    event_id = running.published_event(owner.user_id, capacity=2)
    running.registrations.register(event_id, first)
    running.registrations.register(event_id, second)
    running.registrations.register(event_id, third)
    full = utc_now()
    running.registrations.cancel(event_id, first)
    running.catalog.change(event_id, EventPatch(title="Another title", capacity=5), owner)
    moments = told_at(migrated_database, event_id)

    then, draft, now = (running.history.at(event_id, moment, owner) for moment in (full, moments[1], utc_now()))

    assert (then.title, then.capacity, then.version, then.as_of) == ("A concert", 2, 2, full)
    assert (then.registered, then.waitlisted, then.available) == (2, 1, 0)
    assert (draft.status, draft.registered, draft.available) == ("draft", 0, 2)
    assert (now.title, now.registered, now.waitlisted, now.available) == ("Another title", 2, 0, 3)
    present = running.catalog.describe(event_id).model_dump(exclude={"registered", "waitlisted", "available"})
    assert now.model_dump(include=set(present)) == present


def test_every_version_can_be_had_back_by_the_time_it_was_answered_with(running: Services, owner: Caller) -> None:
    answers = [running.catalog.create(event_in(title="Title 1"), owner)]
    answers += [running.catalog.change(answers[0].id, EventPatch(title=f"Title {n}"), owner) for n in (2, 3)]

    for answer in answers:
        then = running.history.at(answer.id, answer.updated_at, owner)
        assert (then.version, then.title) == (answer.version, answer.title)


def test_before_the_event_there_is_nothing(running: Services, owner: Caller) -> None:
    event_id = running.published_event(owner.user_id)

    with pytest.raises(NotFoundError, match="There was no event"):
        running.history.at(event_id, datetime(2020, 1, 1, tzinfo=UTC), owner)


def test_what_is_no_longer_kept_is_said_to_be_gone(running: Services, owner: Caller, migrated_database: str) -> None:
    event_id = running.published_event(owner.user_id)
    moments = told_at(migrated_database, event_id)
    with administrator(migrated_database) as connection:
        connection.execute(
            "DELETE FROM messaging.outbox WHERE aggregate_type = 'event' AND aggregate_id = %s AND version = 1",
            (event_id,),
        )

    (published,) = page(running, event_id, owner)

    assert published.changes is None
    with pytest.raises(NotFoundError, match="no longer kept"):
        running.history.at(event_id, moments[1], owner)


def test_a_version_that_waited_for_another_is_not_put_before_it(
    running: Services, owner: Caller, migrated_database: str
) -> None:
    """Its transaction began earlier, and so does the time it bears: state goes by the order of versions."""
    event_id = running.catalog.create(event_in(title="Title 1"), owner).id
    for number in (2, 3):
        running.catalog.change(event_id, EventPatch(title=f"Title {number}"), owner)
    moments = told_at(migrated_database, event_id)
    with administrator(migrated_database) as connection:
        connection.execute(
            """
            UPDATE messaging.outbox SET occurred_at = %s
             WHERE aggregate_type = 'event' AND aggregate_id = %s AND version = 3
            """,
            (moments[2] - timedelta(microseconds=1), event_id),
        )

    before = running.history.at(event_id, moments[2] - timedelta(microseconds=1), owner)
    after = running.history.at(event_id, moments[2], owner)

    assert (before.version, after.version) == (1, 3)


def test_history_is_for_the_owner_and_managers(running: Services, owner: Caller) -> None:
    helper, stranger = caller(next(_people)), caller(next(_people))
    event_id = running.published_event(owner.user_id)
    running.teams.put(event_id, helper.user_id, "check_in", owner)

    for ask in (
        lambda who: running.history.page(event_id, HistoryQuery(), who),
        lambda who: running.history.at(event_id, utc_now(), who),
    ):
        with pytest.raises(ForbiddenError):
            ask(helper)
        with pytest.raises(NotFoundError):
            ask(stranger)
    running.teams.put(event_id, helper.user_id, "manager", owner)
    assert page(running, event_id, helper)


def test_a_deleted_draft_has_no_history(running: Services, owner: Caller) -> None:
    event_id = running.catalog.create(event_in(), owner).id
    assert page(running, event_id, owner)
    running.catalog.delete(event_id, owner)

    with pytest.raises(NotFoundError):
        page(running, event_id, owner)


def test_an_erased_person_is_nobody_in_it(running: Services, forgetting: People, owner: Caller) -> None:
    manager, other = caller(next(_people)), caller(next(_people))
    event_id = running.published_event(owner.user_id)
    for member in (manager, other):
        running.teams.put(event_id, member.user_id, "manager", owner)
    running.catalog.change(event_id, EventPatch(title="As the manager has it"), manager)
    for person, version in ((owner, 9), (manager, 9)):
        forgetting.organizers.forget(person.user_id, version)
        forgetting.records.forget(person.user_id)

    entries = page(running, event_id, other)
    then = running.history.at(event_id, utc_now(), other)

    assert {entry.actor.id for entry in entries if entry.actor is not None} == set()
    assert {entry.version for entry in entries} == set(range(1, entries[0].version + 1))
    assert "User " not in "".join(entry.model_dump_json() for entry in entries)
    assert then.organizer.name == "Deleted user"
    assert then.status == "cancelled"


@pytest.mark.parametrize("cursor", ["x", "WzBd", "WyJhIl0", "WzFlOV0"])
def test_a_cursor_of_another_list_is_refused(running: Services, owner: Caller, cursor: str) -> None:
    event_id = running.published_event(owner.user_id)

    with pytest.raises(InvalidInputError):
        page(running, event_id, owner, cursor=cursor)


def test_a_change_that_nobody_recorded_is_missing_in_it(
    running: Services, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: history is what the event store has, not the tables."""
    event_id = running.catalog.create(event_in(), owner).id
    monkeypatch.setattr("eventsplatform.messaging.outbox.Outbox.append", lambda _self, _change: None)
    running.catalog.publish(event_id, owner)

    assert [entry.version for entry in page(running, event_id, owner)] == [1]


def test_a_moment_comes_without_a_cursor() -> None:
    with pytest.raises(ValueError, match="do not come together"):
        HistoryQuery(as_of="2030-01-01T00:00:00Z", cursor="x")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT payload FROM messaging.outbox WHERE aggregate_type = 'event' AND aggregate_id = 1 AND version < 9"
        " ORDER BY version DESC LIMIT 21",
        "SELECT payload FROM messaging.outbox WHERE aggregate_type = 'registration' AND partition_key = '1'",
    ],
)
def test_no_question_reads_the_whole_store(migrated_database: str, query: str) -> None:
    with administrator(migrated_database) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute("EXPLAIN (FORMAT TEXT) " + query).fetchall()

    assert not any("Seq Scan" in str(line) for row in plan for line in row.values())
