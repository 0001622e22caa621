"""The life of an event, the lists it stands in and the team around it, on a real database."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from eventsplatform.catalog.lowering import Lowering
from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.model import CapacityAnswer, Event, EventListQuery, EventPatch, KnownEvent
from eventsplatform.catalog.service import Catalog
from eventsplatform.clock import utc_now
from eventsplatform.errors import (
    ConflictError,
    DependencyUnavailableError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PlatformError,
    PreconditionFailedError,
    UnauthenticatedError,
)
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.identity.caller import Caller
from eventsplatform.messaging.outbox import Outbox
from eventsplatform.registrations.model import EventFacts
from tests.support.callers import caller
from tests.support.database import RegistrationsPlaces, Services, administrator, event_in, services

_people = itertools.count(30_000)


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@pytest.fixture
def owner() -> Caller:
    return caller(next(_people))


@pytest.fixture
def stranger() -> Caller:
    return caller(next(_people))


def patch(**changes: Any) -> EventPatch:
    return EventPatch.model_validate(changes)


def named(key: str, path: str) -> AbstractContextManager[None]:
    return handling_request(
        NamedRequest.of(caller="1", method="PATCH", path=path, key=key, content=b"{}", secret=False)
    )


def told(url: str, event_id: int) -> list[dict[str, Any]]:
    """What the event store has of an event."""
    with administrator(url) as connection:
        return connection.execute(
            """
            SELECT version, type, actor_id, payload FROM messaging.outbox
             WHERE aggregate_type = 'event' AND aggregate_id = %s ORDER BY version
            """,
            (event_id,),
        ).fetchall()


def learnt(running: Services, event_id: int) -> None:
    """Registrations has heard of the event as it is."""
    running.registrations.learn_events([EventFacts.of_event(facts_of(running.catalog.describe(event_id)))])


def move(url: str, event_id: int, *, starts_in: timedelta, ends_in: timedelta) -> None:
    """Let the event be at another time without anyone having to wait for it."""
    with administrator(url) as connection:
        connection.execute(
            "UPDATE catalog.events SET starts_at = now() + %s, ends_at = now() + %s WHERE id = %s",
            (starts_in, ends_in, event_id),
        )


# Changing ----------------------------------------------------------------------------------------


def test_a_merge_patch_changes_what_it_names_and_tells_it(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event = running.catalog.create(event_in(description="Soon"), owner)

    changed = running.catalog.change(
        event.id, patch(title="Another concert", description=None, location={"lat": None, "lon": None}), owner
    )

    assert (changed.title, changed.description, changed.version) == ("Another concert", "", 2)
    assert changed.location.model_dump() == {"name": "Berlin", "lat": None, "lon": None}
    assert changed.starts_at == event.starts_at
    last = told(migrated_database, event.id)[-1]
    assert (last["type"], last["version"], last["actor_id"]) == ("events.updated", 2, owner.user_id)
    assert last["payload"] == facts_of(running.catalog.describe(event.id))


def test_a_patch_that_changes_nothing_makes_no_version(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event = running.catalog.create(event_in(), owner)

    assert running.catalog.change(event.id, patch(title=event.title), owner).version == 1
    assert len(told(migrated_database, event.id)) == 1


def test_a_change_is_conditional_on_the_version_that_if_match_names(running: Services, owner: Caller) -> None:
    event = running.catalog.create(event_in(), owner)

    changed = running.catalog.change(event.id, patch(title="Second"), owner, if_match='"1"')
    with pytest.raises(PreconditionFailedError):
        running.catalog.change(event.id, patch(title="Third"), owner, if_match='"1"')

    assert running.catalog.describe(event.id).title == changed.title == "Second"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"category": "no such category"}, "/category"),
        ({"starts_at": "2001-01-01T00:00:00Z"}, "/starts_at"),
        ({"ends_at": "2001-01-01T00:00:00Z"}, ""),
        ({"location": {"lat": None}}, "/location"),
        ({"price": {"currency": "JPY"}}, "/price"),
    ],
)
def test_what_breaks_a_rule_only_once_merged_is_refused_where_it_is_wrong(
    running: Services, owner: Caller, changes: dict[str, Any], pointer: str
) -> None:
    event = running.catalog.create(event_in(price={"amount": "12.50", "currency": "EUR"}), owner)

    with pytest.raises(InvalidInputError) as refused:
        running.catalog.change(event.id, patch(**changes), owner)

    assert [error.pointer for error in refused.value.errors] == [pointer]
    assert running.catalog.describe(event.id).version == 1


def test_the_price_stays_once_an_event_is_published_and_the_start_once_it_has_begun(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event_id = running.published_event(owner.user_id)

    with pytest.raises(ConflictError, match="price") as refused:
        running.catalog.change(event_id, patch(price={"amount": 5, "currency": "EUR"}), owner)
    assert refused.value.extensions == {"fields": ["price"]}
    move(migrated_database, event_id, starts_in=timedelta(hours=-1), ends_in=timedelta(hours=1))
    later = (utc_now() + timedelta(hours=3)).isoformat()
    with pytest.raises(ConflictError, match=r"started: capacity, starts_at cannot"):
        running.catalog.change(event_id, patch(starts_at=later, ends_at="2090-01-01T00:00:00Z", capacity=101), owner)

    assert running.catalog.change(event_id, patch(ends_at=later, description="It takes longer"), owner).version == 3


def test_an_event_that_is_off_or_over_changes_no_more(running: Services, migrated_database: str, owner: Caller) -> None:
    off, over = running.published_event(owner.user_id), running.published_event(owner.user_id)
    running.catalog.cancel(off, None, owner)
    move(migrated_database, over, starts_in=timedelta(hours=-2), ends_in=timedelta(hours=-1))

    for event_id, reason in ((off, "cancelled"), (over, "over")):
        with pytest.raises(ConflictError, match=reason):
            running.catalog.change(event_id, patch(title="Too late"), owner)


@pytest.mark.parametrize("published", [False, True])
def test_another_persons_event_is_not_there_to_be_changed(
    running: Services, owner: Caller, stranger: Caller, published: bool
) -> None:
    event_id = running.catalog.create(event_in(), owner).id
    if published:
        running.catalog.publish(event_id, owner)

    for act in (
        lambda: running.catalog.change(event_id, patch(title="Mine now"), stranger),
        lambda: running.catalog.publish(event_id, stranger),
        lambda: running.catalog.delete(event_id, stranger),
        lambda: running.catalog.cancel(event_id, None, stranger),
        lambda: running.teams.members(event_id, stranger),
        lambda: running.teams.put(event_id, stranger.user_id, "manager", stranger),
        lambda: running.teams.remove(event_id, owner.user_id, stranger),
    ):
        with pytest.raises(NotFoundError, match=f"There is no event {event_id}"):
            act()


# Fewer places ------------------------------------------------------------------------------------


def test_a_capacity_below_what_is_taken_is_refused_with_the_count_and_one_at_it_is_not(
    running: Services, owner: Caller
) -> None:
    event_id = running.published_event(owner.user_id, capacity=5)
    for user_id in (1, 2, 3):
        running.registrations.register(event_id, caller(user_id))

    with pytest.raises(ConflictError, match="3 places are taken") as refused:
        running.catalog.change(event_id, patch(capacity=2), owner)
    lowered = running.catalog.change(event_id, patch(capacity=3), owner)

    assert refused.value.extensions == {"taken": 3}
    assert (lowered.capacity, lowered.version) == (3, 3)


def test_registrations_gives_out_no_more_places_as_soon_as_it_has_accepted(running: Services, owner: Caller) -> None:
    """Before the message about the new capacity has arrived, and whatever older ones are still on the way."""
    event_id = running.published_event(owner.user_id, capacity=5)
    before = running.catalog.describe(event_id)
    running.registrations.register(event_id, caller(1))

    running.catalog.change(event_id, patch(capacity=1), owner)
    running.registrations.learn_events([EventFacts.of_event(facts_of(before))])

    assert running.registrations.register(event_id, caller(2)).status == "waitlisted"


class InBetween(RegistrationsPlaces):
    """Registrations, with something happening each time after it was asked."""

    def __init__(self, places: RegistrationsPlaces, happening: Any) -> None:
        self.registrations = places.registrations
        self._happening = happening
        self.asked: list[int] = []

    def accept_capacity(self, events: Sequence[KnownEvent], capacity: int) -> dict[int, CapacityAnswer]:
        answers = super().accept_capacity(events, capacity)
        self.asked += [event.version for event in events]
        self._happening()
        return answers


def between(running: Services, happening: Any) -> tuple[Catalog, InBetween]:
    places = InBetween(running.catalog._places, happening)  # type: ignore[arg-type]
    return Catalog(running.catalog._work, running.catalog._users, places, utc_now), places


def test_an_event_that_changed_while_registrations_was_asked_is_asked_about_again(
    running: Services, owner: Caller
) -> None:
    event_id = running.published_event(owner.user_id, capacity=5)
    raised = iter([10])

    def raise_capacity() -> None:
        # And everyone hears of it, and comes.
        for capacity in raised:
            running.catalog.change(event_id, patch(capacity=capacity), owner)
            learnt(running, event_id)
            for user_id in range(1, 9):
                running.registrations.register(event_id, caller(user_id))

    catalog, places = between(running, raise_capacity)

    with pytest.raises(ConflictError, match="8 places are taken"):
        catalog.change(event_id, patch(capacity=3), owner)

    assert places.asked == [2, 3]
    assert running.catalog.describe(event_id).capacity == 10


def test_without_asking_again_more_places_would_be_taken_than_there_are(
    running: Services, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: an answer taken for good although the event has changed since."""
    event_id = running.published_event(owner.user_id, capacity=5)
    raised = iter([10])

    def raise_capacity() -> None:
        for capacity in raised:
            running.catalog.change(event_id, patch(capacity=capacity), owner)
            learnt(running, event_id)
            for user_id in range(1, 9):
                running.registrations.register(event_id, caller(user_id))

    catalog, _ = between(running, raise_capacity)
    monkeypatch.setattr(Lowering, "require", lambda self, events: None)

    assert catalog.change(event_id, patch(capacity=3), owner).capacity == 3, "with eight registered"


def test_a_capacity_that_was_accepted_and_not_committed_is_taken_back(
    running: Services, migrated_database: str, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = running.published_event(owner.user_id, capacity=5)
    failing = iter([True])
    original = Outbox.append

    def fail_once(self: Outbox, change: Any) -> None:
        if next(failing, False):
            raise DependencyUnavailableError("database")
        original(self, change)

    monkeypatch.setattr(Outbox, "append", fail_once)

    with pytest.raises(DependencyUnavailableError):
        running.catalog.change(event_id, patch(capacity=1), owner)

    last = told(migrated_database, event_id)[-1]
    assert (last["version"], last["payload"]["capacity"]) == (3, 5)
    running.registrations.learn_events([EventFacts.of_event(last["payload"])])
    assert [running.registrations.register(event_id, caller(n)).status for n in (1, 2)] == ["active", "active"]


def test_a_repeat_of_a_lowering_does_not_lower_again(running: Services, migrated_database: str, owner: Caller) -> None:
    event_id = running.published_event(owner.user_id, capacity=5)
    key, path = str(uuid4()), f"/v1/events/{event_id}"
    with named(key, path):
        first = running.catalog.change(event_id, patch(capacity=1), owner)
    running.catalog.change(event_id, patch(capacity=4), owner)

    with named(key, path):
        again = running.catalog.change(event_id, patch(capacity=1), owner)

    assert again == first
    assert running.catalog.describe(event_id).capacity == 4
    running.registrations.learn_events(
        [EventFacts.of_event(row["payload"]) for row in told(migrated_database, event_id)]
    )
    assert [running.registrations.register(event_id, caller(n)).status for n in (1, 2)] == ["active", "active"]


def test_lowering_and_registering_at_once_never_takes_more_than_there_are(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event_id = running.published_event(owner.user_id, capacity=40)
    learnt(running, event_id)
    registered: list[bool] = []

    def register(people: range) -> None:
        with services(migrated_database) as own:
            taken = [own.registrations.register(event_id, caller(user_id)) for user_id in people]
        registered.extend(registration.status == "active" for registration in taken)

    threads = [threading.Thread(target=register, args=(range(start, start + 10),)) for start in (100, 200, 300, 400)]
    for thread in threads:
        thread.start()
    lowered: list[int] = []
    for capacity in (30, 20, 10):
        with suppress(ConflictError):
            lowered.append(running.catalog.change(event_id, patch(capacity=capacity), owner).capacity)
    for thread in threads:
        thread.join()

    assert sum(registered) <= min([40, *lowered])


# Deleting, cancelling, completing ----------------------------------------------------------------


def test_a_draft_is_deleted_and_told_to_be(running: Services, migrated_database: str, owner: Caller) -> None:
    draft = running.catalog.create(event_in(), owner)

    running.catalog.delete(draft.id, owner)

    with pytest.raises(NotFoundError):
        running.catalog.get(draft.id, owner)
    last = told(migrated_database, draft.id)[-1]
    assert (last["type"], last["version"], last["payload"]["status"]) == ("events.deleted", 2, "draft")


def test_what_was_published_is_not_deleted(running: Services, owner: Caller) -> None:
    event_id = running.published_event(owner.user_id)

    with pytest.raises(ConflictError, match="Cancel it instead"):
        running.catalog.delete(event_id, owner)


def test_an_event_is_called_off_once_and_says_why(running: Services, migrated_database: str, owner: Caller) -> None:
    event_id = running.published_event(owner.user_id)

    cancelled = running.catalog.cancel(event_id, "The singer is ill.", owner)
    with pytest.raises(ConflictError, match="cancelled already"):
        running.catalog.cancel(event_id, None, owner)

    assert (cancelled.status, cancelled.cancellation_reason) == ("cancelled", "The singer is ill.")
    last = told(migrated_database, event_id)[-1]
    assert (last["type"], last["payload"]["cancellation_reason"]) == ("events.cancelled", "The singer is ill.")


def test_events_that_are_over_are_completed_once(running: Services, migrated_database: str, owner: Caller) -> None:
    over, ahead = running.published_event(owner.user_id), running.published_event(owner.user_id)
    draft = running.catalog.create(event_in(), owner).id
    for event_id in (over, draft):
        move(migrated_database, event_id, starts_in=timedelta(hours=-2), ends_in=timedelta(hours=-1))

    while running.catalog.complete_ended():
        pass

    states = {event_id: running.catalog.describe(event_id).status for event_id in (over, ahead, draft)}
    assert states == {over: "completed", ahead: "published", draft: "draft"}
    completed = [row for row in told(migrated_database, over) if row["type"] == "events.completed"]
    assert [(row["version"], row["actor_id"]) for row in completed] == [(3, None)]


def test_two_runs_at_once_complete_each_event_once(running: Services, migrated_database: str, owner: Caller) -> None:
    events = [running.published_event(owner.user_id) for _ in range(20)]
    for event_id in events:
        move(migrated_database, event_id, starts_in=timedelta(hours=-2), ends_in=timedelta(hours=-1))

    def complete() -> None:
        with services(migrated_database) as own:
            while own.catalog.complete_ended():
                pass

    threads = [threading.Thread(target=complete) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for event_id in events:
        assert [row["type"] for row in told(migrated_database, event_id)].count("events.completed") == 1


# Lists -------------------------------------------------------------------------------------------


def listed(running: Services, user: Caller | None = None, **query: Any) -> list[Event]:
    """All pages of a list."""
    found: list[Event] = []
    cursor: str | None = None
    while True:
        page = running.catalog.browse(EventListQuery.model_validate({**query, "cursor": cursor}), user)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_a_list_goes_by_start_page_by_page_without_gap_or_repetition(running: Services, owner: Caller) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=40)
    ids = []
    for day in (3, 1, 2, 2, 2, 1):
        starts_at = start + timedelta(days=day)
        ids.append(
            running.published_event(
                owner.user_id, starts_at=starts_at.isoformat(), ends_at=(starts_at + timedelta(hours=1)).isoformat()
            )
        )
    running.catalog.create(event_in(), owner)

    found = listed(running, organizer=owner.user_id, limit=2)

    assert [event.id for event in found] == [ids[1], ids[5], ids[2], ids[3], ids[4], ids[0]]


def test_filters_narrow_a_list(running: Services, owner: Caller) -> None:
    start = datetime(2040, 5, 1, 18, tzinfo=UTC)
    end = (start + timedelta(days=9)).isoformat()
    arts = running.published_event(owner.user_id, category="arts", starts_at=start.isoformat(), ends_at=end)
    food = running.published_event(
        owner.user_id, category="food", starts_at=(start + timedelta(days=1)).isoformat(), ends_at=end
    )
    off = running.published_event(owner.user_id, category="food")
    running.catalog.cancel(off, None, owner)

    def ids(**query: Any) -> list[int]:
        return [event.id for event in listed(running, organizer=owner.user_id, **query)]

    assert ids() == [arts, food]
    assert ids(category="food") == [food]
    assert ids(**{"from": start.isoformat(), "to": start.isoformat()}) == [arts]
    assert ids(**{"from": (start + timedelta(seconds=1)).isoformat()}) == [food]
    assert ids(status="cancelled") == [off]


def test_drafts_are_listed_for_their_team_alone(running: Services, owner: Caller, stranger: Caller) -> None:
    published = running.published_event(owner.user_id)
    draft = running.catalog.create(event_in(), owner).id
    helped = running.catalog.create(event_in(), stranger).id
    running.teams.put(helped, owner.user_id, "check_in", stranger)

    assert {event.id for event in listed(running, owner, mine=True, limit=1)} == {published, draft, helped}
    assert {event.id for event in listed(running, owner, mine=True, status="draft")} == {draft, helped}
    assert [event.id for event in listed(running, stranger, mine=True)] == [helped]
    assert [event.id for event in listed(running, None, organizer=owner.user_id)] == [published]
    with pytest.raises(UnauthenticatedError):
        listed(running, None, mine=True)


@pytest.mark.parametrize(
    "cursor", ["x", "WzFd", "WyJhIiwxXQ", "WzEsImEiXQ", "WzEuNSwxXQ", "Wzk5OTk5OTk5OTk5OTk5OTk5OTksMV0"]
)
def test_a_cursor_of_another_list_is_refused(running: Services, cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="cursor"):
        running.catalog.browse(EventListQuery(cursor=cursor), None)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({}, "events_by_start"),
        ({"category": "music"}, "events_by_category"),
        ({"organizer": 7}, "events_by_organizer"),
        ({"from": "2041-01-01T00:00:00Z", "to": "2041-02-01T00:00:00Z"}, "events_by_start"),
        ({"status": "completed"}, "events_by_start"),
        ({"mine": True}, "events_by_organizer"),
    ],
)
def test_each_list_is_read_from_an_index_at_any_depth(
    running: Services, migrated_database: str, query: dict[str, Any], index: str
) -> None:
    statements: list[tuple[str, Any]] = []
    with running.catalog._work.statement() as store:
        connection = store._connection  # type: ignore[attr-defined]
    execute = connection.execute

    class Noting:
        def execute(self, statement: str, values: Any) -> Any:
            statements.append((statement, values))
            return execute(statement, values)

    store._connection = Noting()  # type: ignore[attr-defined]
    asked, after = EventListQuery.model_validate(query), (datetime(2041, 1, 15, tzinfo=UTC), 5)
    until = asked.starts_to or datetime(9999, 12, 31, tzinfo=UTC)
    if asked.mine:
        store.list_own(7, asked, after, until)
    else:
        store.list_events(asked, after, until)

    statement, values = statements[0]
    with administrator(migrated_database) as admin, admin.transaction():
        # What a small table is scanned for, a large one is not: what is asked is whether an index can serve it.
        admin.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off")
        plan = "\n".join(row["QUERY PLAN"] for row in admin.execute("EXPLAIN " + statement, values).fetchall())

    reached = rf"using {index} on events .*\n +Index Cond: .*ROW\(starts_at, id\) > ROW\("
    assert re.search(reached, plan), plan
    assert "Seq Scan on events" not in plan, plan


# Teams -------------------------------------------------------------------------------------------


def acts(running: Services, event_id: int, who: Caller) -> dict[str, str]:
    """What someone may do with an event: each act, and which error it ended with."""
    attempts = {
        "see": lambda: running.catalog.get(event_id, who),
        "see the team": lambda: running.teams.members(event_id, who),
        "change": lambda: running.catalog.change(event_id, patch(description=str(uuid4())), who),
        "invite": lambda: running.teams.put(event_id, 29_999, "check_in", who),
        "delete": lambda: running.catalog.delete(event_id, who, if_match='"0"'),
        "publish": lambda: running.catalog.publish(event_id, who),
        "cancel": lambda: running.catalog.cancel(event_id, None, who),
    }
    outcome: dict[str, str] = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            outcome[name] = "done"
        except PlatformError as error:
            outcome[name] = error.code
    return outcome


def test_a_team_member_may_do_what_the_role_is_for_and_no_more(
    running: Services, owner: Caller, stranger: Caller
) -> None:
    def draft(role: Any = None) -> int:
        event_id = running.catalog.create(event_in(), owner).id
        if role:
            running.teams.put(event_id, stranger.user_id, role, owner)
        return event_id

    none, forbidden = "not_found", "forbidden"
    names = ("see", "see the team", "change", "invite", "delete", "publish", "cancel")
    assert acts(running, draft(), stranger) == dict.fromkeys(names, none)
    assert acts(running, draft("check_in"), stranger) == {
        **dict.fromkeys(names, forbidden),
        **dict.fromkeys(("see", "see the team"), "done"),
    }
    assert acts(running, draft("manager"), stranger) == {
        **dict.fromkeys(names, "done"),
        **dict.fromkeys(("invite", "delete"), forbidden),
    }
    assert acts(running, draft(), owner) == {**dict.fromkeys(names, "done"), "delete": "precondition_failed"}


def test_the_team_is_shown_with_its_owner_first_and_told_without_names(
    running: Services, migrated_database: str, owner: Caller, stranger: Caller
) -> None:
    event_id = running.published_event(owner.user_id)

    running.teams.put(event_id, stranger.user_id, "check_in", owner)
    running.teams.put(event_id, stranger.user_id, "manager", owner)
    running.teams.put(event_id, stranger.user_id, "manager", owner)

    members = [(member.user.id, member.role) for member in running.teams.members(event_id, stranger).items]
    assert members == [(owner.user_id, "owner"), (stranger.user_id, "manager")]
    rows = told(migrated_database, event_id)
    assert [row["version"] for row in rows] == [1, 2, 3, 4], "what changes nothing is not told"
    assert rows[-1]["payload"]["team"] == [{"user_id": stranger.user_id, "role": "manager"}]


def test_a_member_leaves_or_is_sent_away(running: Services, owner: Caller, stranger: Caller) -> None:
    event_id = running.catalog.create(event_in(), owner).id
    for remover in (stranger, owner):
        running.teams.put(event_id, stranger.user_id, "check_in", owner)

        running.teams.remove(event_id, stranger.user_id, remover)

        with pytest.raises(NotFoundError):
            running.catalog.get(event_id, stranger)
    with pytest.raises(NotFoundError, match="in the team"):
        running.teams.remove(event_id, stranger.user_id, owner)


def test_a_member_cannot_send_another_away(running: Services, owner: Caller, stranger: Caller) -> None:
    event_id = running.catalog.create(event_in(), owner).id
    other = caller(next(_people))
    for member in (stranger, other):
        running.teams.put(event_id, member.user_id, "manager", owner)

    with pytest.raises(ForbiddenError):
        running.teams.remove(event_id, other.user_id, stranger)


def test_a_team_has_an_end(running: Services, owner: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventsplatform.catalog.teams.TEAM_MAXIMUM", 2)
    event_id = running.catalog.create(event_in(), owner).id
    first, second, third = (next(_people) for _ in range(3))
    for user_id in (first, second):
        running.teams.put(event_id, user_id, "check_in", owner)

    with pytest.raises(ConflictError, match="at most 2"):
        running.teams.put(event_id, third, "check_in", owner)

    assert running.teams.put(event_id, second, "manager", owner).role == "manager"


def test_the_owner_needs_no_role_and_an_unknown_user_gets_none(running: Services, owner: Caller) -> None:
    event_id = running.catalog.create(event_in(), owner).id

    with pytest.raises(ConflictError, match="owner"):
        running.teams.put(event_id, owner.user_id, "check_in", owner)

    class Nobody:
        def describe(self, user_id: int) -> tuple[str, int]:
            raise NotFoundError(f"There is no user {user_id}.")

    running.teams._users = Nobody()
    with pytest.raises(NotFoundError, match="no user"):
        running.teams.put(event_id, next(_people), "check_in", owner)
