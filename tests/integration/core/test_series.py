"""Series of events on a real database: how they are made, changed as a whole or in part, and given another rule."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from eventsplatform.catalog.lowering import Lowering
from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.model import TEAM_MAXIMUM, CapacityAnswer, Event, EventPatch, HistoryQuery, KnownEvent
from eventsplatform.catalog.occurrences import SeriesIn, SeriesMade, SeriesQuery
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.catalog.service import Catalog
from eventsplatform.clock import utc_now
from eventsplatform.errors import (
    ConflictError,
    DependencyUnavailableError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PreconditionFailedError,
)
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.model import EventFacts
from tests.support.callers import caller
from tests.support.database import RegistrationsPlaces, Services, administrator, event_in, services
from tests.support.people import people
from tests.support.polling import eventually

_people = itertools.count(40_000)
TUESDAY = datetime(2035, 3, 6, 18, tzinfo=UTC)  # 19:00 in Berlin, three weeks before its clocks change


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


def plan(rule: str, **dates: list[str]) -> SeriesIn:
    return SeriesIn.model_validate({"rule": rule, **dates})


def tuesdays(running: Services, owner: Caller, rule: str = "FREQ=WEEKLY;COUNT=4", **changes: Any) -> SeriesMade:
    """A series of drafts on Tuesdays at 19:00 in Berlin."""
    times = {"starts_at": TUESDAY.isoformat(), "ends_at": (TUESDAY + timedelta(hours=2)).isoformat()}
    event = running.catalog.create(event_in(**{**times, **changes}), owner)
    return running.series.plan(event.id, plan(rule), owner)


def published(running: Services, owner: Caller, **changes: Any) -> list[int]:
    event_ids = tuesdays(running, owner, **changes).event_ids
    running.catalog.publish(event_ids[0], owner, scope="all")
    return event_ids


def shown(running: Services, event_ids: Sequence[int]) -> list[KnownEvent]:
    return [running.catalog.describe(event_id) for event_id in event_ids]


def begin(running: Services, url: str, event_id: int) -> None:
    """Let an occurrence have begun without anyone having to wait for it."""
    with administrator(url) as connection:
        connection.execute(
            "UPDATE catalog.events SET starts_at = now() - interval '1 hour', ends_at = now() + interval '1 hour' "
            "WHERE id = %s",
            (event_id,),
        )


def told(url: str, event_id: int) -> list[dict[str, Any]]:
    with administrator(url) as connection:
        return connection.execute(
            """
            SELECT version, type, actor_id, payload FROM messaging.outbox
             WHERE aggregate_type = 'event' AND aggregate_id = %s ORDER BY version
            """,
            (event_id,),
        ).fetchall()


def named(key: str) -> AbstractContextManager[None]:
    return handling_request(
        NamedRequest.of(caller="1", method="POST", path="/series", key=key, content=b"{}", secret=False)
    )


# Making one --------------------------------------------------------------------------------------


def test_an_event_becomes_the_first_of_a_series_of_events_of_their_own(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event = running.catalog.create(
        event_in(starts_at=TUESDAY.isoformat(), ends_at="2035-03-06T20:00:00Z", tags=["choir"], capacity=12), owner
    )
    running.catalog.publish(event.id, owner)

    made = running.series.plan(event.id, plan("FREQ=WEEKLY;BYDAY=TU;COUNT=4"), owner)

    assert made.event_ids[0] == event.id
    events = shown(running, made.event_ids)
    assert [str(each.series_date) for each in events] == ["2035-03-06", "2035-03-13", "2035-03-20", "2035-03-27"]
    assert [each.starts_at_local.isoformat() for each in events] == [
        "2035-03-06T19:00:00+01:00",
        "2035-03-13T19:00:00+01:00",
        "2035-03-20T19:00:00+01:00",
        "2035-03-27T19:00:00+02:00",
    ]
    assert [each.status for each in events] == ["published", "draft", "draft", "draft"]
    assert {(each.series_id, each.capacity, *each.tags) for each in events} == {(made.id, 12, "choir")}
    assert [(row["type"], row["version"]) for row in told(migrated_database, event.id)][-1] == ("events.updated", 3)
    [created] = told(migrated_database, events[1].id)
    assert (created["type"], created["actor_id"]) == ("events.created", owner.user_id)
    assert created["payload"] == facts_of(events[1])


def test_each_occurrence_has_places_of_its_own(running: Services, owner: Caller) -> None:
    first, second, *_ = published(running, owner, capacity=1)

    statuses = [running.registrations.register(event_id, caller(1)).status for event_id in (first, second)]
    waiting = running.registrations.register(first, caller(2)).status

    assert statuses == ["active", "active"]
    assert waiting == "waitlisted"


def test_the_team_of_the_event_is_that_of_the_others(running: Services, owner: Caller, stranger: Caller) -> None:
    event = running.catalog.create(event_in(), owner)
    running.teams.put(event.id, stranger.user_id, "manager", owner)

    made = running.series.plan(event.id, plan("FREQ=DAILY;COUNT=2"), owner)

    other = running.catalog.describe(made.event_ids[1])
    assert other.role_of(stranger.user_id) == "manager"
    assert running.catalog.change(other.id, patch(title="By a manager"), stranger).title == "By a manager"


def test_a_repeat_of_the_request_makes_no_second_series(running: Services, owner: Caller) -> None:
    event = running.catalog.create(event_in(), owner)
    key = str(uuid4())
    with named(key):
        first = running.series.plan(event.id, plan("FREQ=DAILY;COUNT=3"), owner)
    with named(key):
        again = running.series.plan(event.id, plan("FREQ=DAILY;COUNT=3"), owner)

    assert again == first
    assert running.catalog.describe(event.id).version == 2


def test_a_series_is_made_whole_or_not_at_all(
    running: Services, migrated_database: str, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = running.catalog.create(event_in(), owner)

    def failing(self: PostgresCatalog, *arguments: Any) -> list[KnownEvent]:
        raise DependencyUnavailableError("database")

    monkeypatch.setattr(PostgresCatalog, "add_occurrences", failing)

    with pytest.raises(DependencyUnavailableError):
        running.series.plan(event.id, plan("FREQ=DAILY;COUNT=3"), owner)

    assert running.catalog.describe(event.id).series_id is None
    assert len(told(migrated_database, event.id)) == 1


def test_two_who_repeat_an_event_at_once_make_one_series(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event_id = running.catalog.create(event_in(), owner).id
    made: list[SeriesMade] = []

    def repeat() -> None:
        with services(migrated_database) as own:
            made.append(own.series.plan(event_id, plan("FREQ=DAILY;COUNT=20"), owner))

    threads = [threading.Thread(target=repeat) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 6
    assert all(each == made[0] for each in made)
    assert len(running.series.page(event_id, SeriesQuery(limit=100), owner).items) == 20


@pytest.mark.parametrize(
    ("rule", "dates", "pointer"),
    [
        ("FREQ=WEEKLY;BYDAY=WE;COUNT=3", {}, "/rule"),
        ("FREQ=WEEKLY;COUNT=3", {"excluded_dates": ["2035-03-06"]}, "/excluded_dates"),
        ("FREQ=WEEKLY;COUNT=3", {"excluded_dates": ["2035-03-07"]}, "/excluded_dates"),
        ("FREQ=WEEKLY;COUNT=3", {"extra_dates": ["2035-03-05"]}, "/extra_dates"),
    ],
)
def test_a_plan_that_does_not_fit_the_event_is_refused_where_it_is_wrong(
    running: Services, owner: Caller, rule: str, dates: dict[str, list[str]], pointer: str
) -> None:
    event = running.catalog.create(event_in(starts_at=TUESDAY.isoformat(), ends_at="2035-03-06T20:00:00Z"), owner)

    with pytest.raises(InvalidInputError) as refused:
        running.series.plan(event.id, plan(rule, **dates), owner)

    assert [error.pointer for error in refused.value.errors] == [pointer]
    assert running.catalog.describe(event.id).series_id is None


def test_what_is_off_or_has_begun_is_not_repeated(running: Services, migrated_database: str, owner: Caller) -> None:
    off, begun = running.published_event(owner.user_id), running.published_event(owner.user_id)
    running.catalog.cancel(off, None, owner)
    begin(running, migrated_database, begun)

    for event_id in (off, begun):
        with pytest.raises(ConflictError, match="still ahead"):
            running.series.plan(event_id, plan("FREQ=DAILY;COUNT=3"), owner)


# Seeing one --------------------------------------------------------------------------------------


def test_the_series_is_listed_by_date_and_drafts_only_for_their_team(
    running: Services, owner: Caller, stranger: Caller
) -> None:
    made = tuesdays(running, owner, rule="FREQ=WEEKLY;COUNT=5")
    running.catalog.publish(made.event_ids[1], owner)
    running.catalog.publish(made.event_ids[3], owner)
    seen = made.event_ids[1]

    def listed(who: Caller | None) -> list[int]:
        return [event.id for event in running.series.page(seen, SeriesQuery(), who).items]

    page = running.series.page(seen, SeriesQuery(limit=2), owner)
    rest = running.series.page(seen, SeriesQuery(limit=3, cursor=page.next_cursor), owner)

    assert [event.id for event in [*page.items, *rest.items]] == made.event_ids
    assert rest.next_cursor is None
    assert (page.series.rule, str(page.series.starts_on)) == ("FREQ=WEEKLY;COUNT=5", "2035-03-06")
    assert listed(None) == listed(stranger) == [made.event_ids[1], made.event_ids[3]]
    running.teams.put(made.event_ids[4], stranger.user_id, "check_in", owner)
    assert listed(stranger) == [made.event_ids[1], made.event_ids[3], made.event_ids[4]]


def test_a_series_that_is_not_there_or_not_to_be_seen_is_not_found(
    running: Services, owner: Caller, stranger: Caller
) -> None:
    draft, alone = tuesdays(running, owner).event_ids[0], running.published_event(owner.user_id)

    with pytest.raises(NotFoundError, match="There is no event"):
        running.series.page(draft, SeriesQuery(), stranger)
    with pytest.raises(NotFoundError, match="in no series"):
        running.series.page(alone, SeriesQuery(), None)
    with pytest.raises(InvalidInputError, match="cursor"):
        running.series.page(draft, SeriesQuery(cursor="WzFd"), owner)


# Changing several --------------------------------------------------------------------------------


def test_a_change_is_of_one_of_those_from_one_on_or_of_all(running: Services, owner: Caller) -> None:
    event_ids = published(running, owner)

    running.catalog.change(event_ids[0], patch(title="One"), owner)
    assert [event.title for event in shown(running, event_ids)] == ["One", "A concert", "A concert", "A concert"]
    running.catalog.change(event_ids[2], patch(title="From here on"), owner, scope="following")
    assert [event.title for event in shown(running, event_ids)] == ["One", "A concert", "From here on", "From here on"]
    running.catalog.change(event_ids[3], patch(title="All"), owner, scope="all")
    assert {event.title for event in shown(running, event_ids)} == {"All"}


def test_each_event_that_changes_is_told_once_and_the_others_not(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event_ids = published(running, owner)
    running.catalog.change(event_ids[3], patch(description="Bring chairs"), owner)

    running.catalog.change(event_ids[2], patch(description="Bring chairs"), owner, scope="following")

    last = [told(migrated_database, event_id)[-1] for event_id in event_ids]
    assert [row["type"] for row in last] == ["events.published", "events.published", "events.updated", "events.updated"]
    assert [row["version"] for row in last] == [3, 2, 3, 3]
    assert last[2]["actor_id"] == owner.user_id
    entries = running.history.page(event_ids[2], HistoryQuery(), owner).items
    assert [change.field for change in entries[0].changes or []] == ["description"]


def test_what_one_has_of_its_own_stays_unless_that_field_is_set_again(running: Services, owner: Caller) -> None:
    event_ids = published(running, owner)
    running.catalog.change(event_ids[2], patch(title="With guests", starts_at="2035-03-20T18:30:00Z"), owner)

    running.catalog.change(event_ids[0], patch(description="Sing along"), owner, scope="all")
    own = running.catalog.describe(event_ids[2])
    assert (own.title, own.description, own.starts_at.minute) == ("With guests", "Sing along", 30)
    running.catalog.change(event_ids[0], patch(title="Choir"), owner, scope="all")
    assert running.catalog.describe(event_ids[2]).title == "Choir"


def test_a_new_time_keeps_the_wall_clock_on_both_sides_of_a_change_of_clocks(running: Services, owner: Caller) -> None:
    event_ids = published(running, owner)

    running.catalog.change(
        event_ids[1], patch(starts_at="2035-03-14T20:00:00+01:00", ends_at="2035-03-14T23:00:00+01:00"), owner,
        scope="following",
    )  # fmt: skip

    events = shown(running, event_ids)
    assert [event.starts_at_local.isoformat() for event in events] == [
        "2035-03-06T19:00:00+01:00",
        "2035-03-14T20:00:00+01:00",
        "2035-03-21T20:00:00+01:00",
        "2035-03-28T20:00:00+02:00",
    ]
    assert [event.ends_at_local.hour for event in events] == [21, 23, 23, 23]
    assert [str(event.series_date) for event in events] == ["2035-03-06", "2035-03-13", "2035-03-20", "2035-03-27"]


def test_if_match_is_about_the_event_that_is_named(running: Services, owner: Caller) -> None:
    event_ids = tuesdays(running, owner).event_ids
    running.catalog.change(event_ids[1], patch(title="Another version"), owner)

    with pytest.raises(PreconditionFailedError):
        running.catalog.change(event_ids[1], patch(title="Choir"), owner, scope="all", if_match='"1"')
    running.catalog.change(event_ids[2], patch(title="Choir"), owner, scope="all", if_match='"1"')

    assert {event.title for event in shown(running, event_ids)} == {"Choir"}


def test_what_one_occurrence_refuses_happens_to_none(running: Services, owner: Caller) -> None:
    event_ids = tuesdays(running, owner).event_ids
    running.catalog.publish(event_ids[2], owner)

    with pytest.raises(ConflictError, match=rf"event {event_ids[2]}: .*price") as refused:
        running.catalog.change(event_ids[0], patch(price={"amount": 5}), owner, scope="all")

    assert refused.value.extensions["event_id"] == event_ids[2]
    assert {event.price.amount for event in shown(running, event_ids)} == {0}


def test_who_manages_one_of_them_alone_changes_that_one_alone(
    running: Services, owner: Caller, stranger: Caller
) -> None:
    event_ids = tuesdays(running, owner).event_ids
    running.teams.put(event_ids[1], stranger.user_id, "manager", owner)

    running.catalog.change(event_ids[1], patch(title="Mine"), stranger)
    for act in (
        lambda: running.catalog.change(event_ids[1], patch(title="Ours"), stranger, scope="all"),
        lambda: running.catalog.publish(event_ids[1], stranger, scope="following"),
        lambda: running.catalog.cancel(event_ids[1], None, stranger, scope="all"),
    ):
        with pytest.raises(ForbiddenError, match="every occurrence"):
            act()

    assert [event.title for event in shown(running, event_ids)] == ["A concert", "Mine", "A concert", "A concert"]


def test_a_team_is_changed_in_one_of_them_or_in_all_that_are_ahead(
    running: Services, migrated_database: str, owner: Caller, stranger: Caller
) -> None:
    event_ids = published(running, owner)
    begin(running, migrated_database, event_ids[0])

    def roles() -> list[str | None]:
        return [event.role_of(stranger.user_id) for event in shown(running, event_ids)]

    running.teams.put(event_ids[1], stranger.user_id, "check_in", owner)
    assert roles() == [None, "check_in", None, None]
    running.teams.put(event_ids[2], stranger.user_id, "manager", owner, scope="all")
    assert roles() == [None, "manager", "manager", "manager"]
    running.teams.remove(event_ids[2], stranger.user_id, stranger, scope="following")
    assert roles() == [None, "manager", None, None]
    running.teams.remove(event_ids[3], stranger.user_id, owner, scope="all")
    assert roles() == [None] * 4
    with pytest.raises(NotFoundError):
        running.teams.remove(event_ids[3], stranger.user_id, owner, scope="all")
    assert [row["type"] for row in told(migrated_database, event_ids[3])][-2:] == ["events.updated"] * 2


def test_a_team_that_is_full_somewhere_is_added_to_nowhere(running: Services, owner: Caller, stranger: Caller) -> None:
    event_ids = tuesdays(running, owner).event_ids
    for _ in range(TEAM_MAXIMUM):
        running.teams.put(event_ids[2], next(_people), "check_in", owner)

    with pytest.raises(ConflictError, match="at most 50 members") as refused:
        running.teams.put(event_ids[0], stranger.user_id, "manager", owner, scope="all")

    assert refused.value.extensions == {"event_id": event_ids[2]}
    assert all(event.role_of(stranger.user_id) is None for event in shown(running, event_ids))


def test_an_event_alone_is_all_of_what_it_is_in(running: Services, owner: Caller) -> None:
    event_id, other = running.published_event(owner.user_id), running.published_event(owner.user_id)

    changed = running.catalog.change(event_id, patch(title="Alone"), owner, scope="all")

    assert (changed.title, running.catalog.describe(other).title) == ("Alone", "A concert")


# Fewer places of several -------------------------------------------------------------------------


def test_fewer_places_than_are_taken_anywhere_are_refused_everywhere_naming_where(
    running: Services, owner: Caller
) -> None:
    event_ids = published(running, owner, capacity=5)
    for user_id in (1, 2, 3):
        running.registrations.register(event_ids[2], caller(user_id))
    running.registrations.register(event_ids[3], caller(1))

    with pytest.raises(ConflictError, match=rf"2035-03-20, event {event_ids[2]}: 3 places are taken") as refused:
        running.catalog.change(event_ids[0], patch(capacity=2), owner, scope="all")
    lowered = running.catalog.change(event_ids[0], patch(capacity=3), owner, scope="all")

    assert refused.value.extensions == {"taken": 3, "event_id": event_ids[2]}
    assert lowered.capacity == 3
    assert {event.capacity for event in shown(running, event_ids)} == {3}
    assert running.registrations.register(event_ids[2], caller(9)).status == "waitlisted"


def test_a_draft_has_nobody_to_be_asked_about(running: Services, owner: Caller) -> None:
    event_ids = tuesdays(running, owner).event_ids
    asked: list[int] = []
    catalog = in_between(running, lambda: None, asked)

    catalog.change(event_ids[0], patch(capacity=2), owner, scope="all")

    assert asked == []


def in_between(running: Services, happening: Callable[[], None], asked: list[int]) -> Catalog:
    """The catalog, with something happening each time after it has asked registrations."""

    class Asked(RegistrationsPlaces):
        registrations = running.registrations

        def accept_capacity(self, events: Sequence[KnownEvent], capacity: int) -> dict[int, CapacityAnswer]:
            answers = super().accept_capacity(events, capacity)
            asked.extend(event.id for event in events)
            happening()
            return answers

    return Catalog(running.catalog._work, running.catalog._users, Asked(), utc_now)


def learnt(running: Services, url: str, event_ids: Sequence[int]) -> None:
    """Registrations has heard all that was told of the events."""
    for event_id in event_ids:
        running.registrations.learn_events([EventFacts.of_event(row["payload"]) for row in told(url, event_id)])


def open_places(running: Services, event_id: int) -> int:
    """How many people still get a place, counted by having them take it."""
    return sum(running.registrations.register(event_id, caller(n)).status == "active" for n in range(500, 510))


def refuse_at_the_end(running: Services, owner: Caller, event_ids: Sequence[int]) -> Catalog:
    """Registrations accepts, and then somebody else calls off the event that the change is addressed to."""
    happened = iter([True])

    def call_off() -> None:
        if next(happened, False):
            running.catalog.cancel(event_ids[0], None, owner)

    return in_between(running, call_off, [])


def test_capacities_that_were_accepted_and_not_committed_are_taken_back_everywhere(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event_ids = published(running, owner, capacity=5)
    catalog = refuse_at_the_end(running, owner, event_ids)

    with pytest.raises(ConflictError, match="cancelled"):
        catalog.change(event_ids[0], patch(capacity=1), owner, scope="all")

    learnt(running, migrated_database, event_ids)
    assert open_places(running, event_ids[1]) == 5


def test_without_taking_them_back_registrations_would_hold_them_down(
    running: Services, migrated_database: str, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    event_ids = published(running, owner, capacity=5)
    catalog = refuse_at_the_end(running, owner, event_ids)
    monkeypatch.setattr(Catalog, "_take_back", lambda self, lowering: None)

    with pytest.raises(ConflictError, match="cancelled"):
        catalog.change(event_ids[0], patch(capacity=1), owner, scope="all")

    learnt(running, migrated_database, event_ids)
    assert open_places(running, event_ids[1]) == 1


def raise_and_fill(running: Services, url: str, owner: Caller, event_id: int) -> Callable[[], None]:
    """One occurrence gets more places while registrations is asked, and people take them."""
    happened = iter([True])

    def act() -> None:
        if next(happened, False):
            running.catalog.change(event_id, patch(capacity=10), owner)
            learnt(running, url, [event_id])
            for user_id in range(1, 9):
                running.registrations.register(event_id, caller(user_id))

    return act


def test_an_occurrence_that_changed_meanwhile_is_asked_about_again(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event_ids = published(running, owner, capacity=5)
    asked: list[int] = []
    catalog = in_between(running, raise_and_fill(running, migrated_database, owner, event_ids[2]), asked)

    with pytest.raises(ConflictError, match=rf"event {event_ids[2]}: 8 places are taken"):
        catalog.change(event_ids[0], patch(capacity=3), owner, scope="all")

    assert len(asked) == 8
    assert {event.capacity for event in shown(running, event_ids)} == {5, 10}


def test_without_asking_again_it_would_be_oversold(
    running: Services, migrated_database: str, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    event_ids = published(running, owner, capacity=5)
    catalog = in_between(running, raise_and_fill(running, migrated_database, owner, event_ids[2]), [])
    monkeypatch.setattr(Lowering, "require", lambda self, events: None)

    catalog.change(event_ids[0], patch(capacity=3), owner, scope="all")

    assert running.catalog.describe(event_ids[2]).capacity == 3, "with eight registered"


# Publishing, cancelling and deleting several -----------------------------------------------------


def test_publishing_several_is_about_their_drafts(running: Services, migrated_database: str, owner: Caller) -> None:
    event_ids = tuesdays(running, owner).event_ids
    running.catalog.publish(event_ids[3], owner)

    answered = running.catalog.publish(event_ids[1], owner, scope="following")
    rest = running.catalog.publish(event_ids[3], owner, scope="all")

    assert (answered.id, answered.status) == (event_ids[1], "published")
    assert (rest.id, rest.version) == (event_ids[3], 2)
    assert [event.status for event in shown(running, event_ids)] == ["published"] * 4
    assert [len(told(migrated_database, event_id)) for event_id in event_ids] == [3, 2, 2, 2]
    with pytest.raises(ConflictError, match="this event is published"):
        running.catalog.publish(event_ids[0], owner, scope="all")


def test_cancelling_several_leaves_what_has_begun_and_what_is_off(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event_ids = published(running, owner)
    begin(running, migrated_database, event_ids[0])
    running.catalog.cancel(event_ids[2], "Holiday", owner)

    running.catalog.cancel(event_ids[3], "The choir is no more.", owner, scope="all")

    events = shown(running, event_ids)
    assert [event.status for event in events] == ["published", "cancelled", "cancelled", "cancelled"]
    assert [event.cancellation_reason for event in events][1:] == [
        "The choir is no more.", "Holiday", "The choir is no more.",
    ]  # fmt: skip
    with pytest.raises(ConflictError, match="cancelled already"):
        running.catalog.cancel(event_ids[3], None, owner, scope="following")


def test_deleting_takes_drafts_out_of_the_plan_and_the_last_one_takes_it_along(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    made = tuesdays(running, owner)
    event_ids = made.event_ids

    running.catalog.delete(event_ids[1], owner)
    page = running.series.page(event_ids[0], SeriesQuery(), owner)
    assert [str(day) for day in page.series.excluded_dates] == ["2035-03-13"]
    running.catalog.delete(event_ids[2], owner, scope="following")
    page = running.series.page(event_ids[0], SeriesQuery(), owner)
    assert [event.id for event in page.items] == [event_ids[0]]
    assert [str(day) for day in page.series.excluded_dates] == ["2035-03-13", "2035-03-20", "2035-03-27"]
    running.catalog.delete(event_ids[0], owner)

    assert told(migrated_database, event_ids[3])[-1]["type"] == "events.deleted"
    with administrator(migrated_database) as connection:
        assert connection.execute("SELECT FROM catalog.series WHERE id = %s", (made.id,)).fetchone() is None


# Another rule ------------------------------------------------------------------------------------


def test_a_longer_rule_adds_drafts_like_the_event_that_is_named(running: Services, owner: Caller) -> None:
    event_ids = published(running, owner)
    running.catalog.change(
        event_ids[3],
        patch(title="On Wednesdays", starts_at="2035-03-28T20:00:00+02:00", ends_at="2035-03-28T22:00:00+02:00"),
        owner,
    )

    made = running.series.plan(event_ids[3], plan("FREQ=WEEKLY;COUNT=6"), owner)

    assert made.event_ids[:4] == event_ids
    added = shown(running, made.event_ids[4:])
    assert [(event.title, event.status) for event in added] == [("On Wednesdays", "draft")] * 2
    assert [event.starts_at_local.isoformat() for event in added] == [
        "2035-04-04T20:00:00+02:00",
        "2035-04-11T20:00:00+02:00",
    ]
    assert [str(event.series_date) for event in added] == ["2035-04-03", "2035-04-10"]


def test_a_shorter_rule_deletes_drafts_and_leaves_what_is_off(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    event_ids = tuesdays(running, owner).event_ids
    running.catalog.cancel(event_ids[2], None, owner)

    made = running.series.plan(event_ids[0], plan("FREQ=WEEKLY;COUNT=2"), owner)

    assert made.event_ids == event_ids[:3]
    with pytest.raises(NotFoundError):
        running.catalog.describe(event_ids[3])
    assert told(migrated_database, event_ids[3])[-1]["type"] == "events.deleted"


def test_published_occurrences_do_not_go_with_a_shorter_rule(running: Services, owner: Caller) -> None:
    event_ids = tuesdays(running, owner).event_ids
    running.catalog.publish(event_ids[3], owner)

    with pytest.raises(ConflictError, match=rf"cancel them first: 2035-03-27 \(event {event_ids[3]}\)") as refused:
        running.series.plan(event_ids[0], plan("FREQ=WEEKLY;COUNT=2"), owner)

    assert refused.value.extensions == {"event_ids": [event_ids[3]]}
    assert len(running.series.page(event_ids[0], SeriesQuery(), owner).items) == 4


def test_a_manager_may_extend_a_series_and_not_shorten_it(running: Services, owner: Caller, stranger: Caller) -> None:
    event = running.catalog.create(event_in(), owner)
    running.teams.put(event.id, stranger.user_id, "manager", owner)
    running.series.plan(event.id, plan("FREQ=DAILY;COUNT=3"), stranger)

    assert len(running.series.plan(event.id, plan("FREQ=DAILY;COUNT=4"), stranger).event_ids) == 4
    with pytest.raises(ForbiddenError):
        running.series.plan(event.id, plan("FREQ=DAILY;COUNT=2"), stranger)


class WithoutTheSeriesLock(PostgresCatalog):
    """Looks for the occurrences at once, whoever is changing which there are."""

    def find_occurrences(self, event_id: int, *, following: bool, for_update: bool = False) -> list[KnownEvent]:
        found = super().find_occurrences(event_id, following=following)
        for event in found:
            self.find_event(event.id, for_update=True)
        return found


def titles_after_both(
    running: Services, url: str, owner: Caller, monkeypatch: pytest.MonkeyPatch, store: type[PostgresCatalog]
) -> set[str]:
    """The titles in a series that gets more occurrences in one transaction and another title in one that waits."""
    event_ids = tuesdays(running, owner).event_ids
    added, changing = threading.Event(), threading.Event()
    add_occurrences = PostgresCatalog.add_occurrences

    def slowly(self: PostgresCatalog, *arguments: Any) -> list[KnownEvent]:
        result = add_occurrences(self, *arguments)
        added.set()
        changing.wait(10)
        eventually(lambda: waits_for_lock(url), what="the change waits")
        return result

    def rename() -> None:
        added.wait(10)
        with services(url) as own:
            own.catalog._work._store = store  # type: ignore[attr-defined]
            changing.set()
            own.catalog.change(event_ids[0], patch(title="Choir"), owner, scope="all")

    monkeypatch.setattr(PostgresCatalog, "add_occurrences", slowly)
    thread = threading.Thread(target=rename)
    thread.start()
    made = running.series.plan(event_ids[0], plan("FREQ=WEEKLY;COUNT=6"), owner)
    thread.join()
    return {event.title for event in shown(running, made.event_ids)}


def waits_for_lock(url: str) -> bool:
    with administrator(url) as connection:
        row = connection.execute(
            "SELECT FROM pg_stat_activity WHERE usename = 'catalog' AND wait_event_type = 'Lock'"
        ).fetchone()
    return row is not None


def test_a_change_of_all_misses_none_that_is_being_added(
    running: Services, migrated_database: str, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert titles_after_both(running, migrated_database, owner, monkeypatch, PostgresCatalog) == {"Choir"}


def test_without_the_lock_of_the_series_it_would_miss_them(
    running: Services, migrated_database: str, owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    titles = titles_after_both(running, migrated_database, owner, monkeypatch, WithoutTheSeriesLock)

    assert titles == {"Choir", "A concert"}


# People ------------------------------------------------------------------------------------------


def test_the_series_of_an_erased_organiser_goes_with_its_drafts_and_stays_with_what_was_public(
    running: Services, migrated_database: str, owner: Caller
) -> None:
    unseen, seen = tuesdays(running, owner), tuesdays(running, owner)
    running.catalog.publish(seen.event_ids[1], owner)

    with people(migrated_database) as others:
        others.organizers.forget(owner.user_id, 2)

    with administrator(migrated_database) as connection:
        left = connection.execute("SELECT id FROM catalog.series WHERE organizer_id = %s", (owner.user_id,)).fetchall()
    assert [row["id"] for row in left] == [seen.id]
    page: list[Event] = running.series.page(seen.event_ids[1], SeriesQuery(), None).items
    assert [(event.id, event.status, event.organizer.name) for event in page] == [
        (seen.event_ids[1], "cancelled", "Deleted user")
    ]
    assert unseen.id != seen.id
