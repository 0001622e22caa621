"""The life of a registration beyond the first: cancelled, in line, offered, accepted, expired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventsplatform.catalog.model import ToldRegistration
from eventsplatform.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from eventsplatform.registrations.lifecycle import OFFER_LIFETIME
from eventsplatform.registrations.model import EventFacts, PageQuery, Registration
from tests.support.callers import caller
from tests.support.database import Services, administrator, services

ORGANIZER = 21
ADA, GRACE, ALAN, EDSGER, BARBARA = 31, 32, 33, 34, 35


@dataclass
class World:
    """The services, with a clock that the test moves."""

    url: str
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    running: Services = field(init=False)

    def event(self, capacity: int, *people: int) -> int:
        event_id = self.running.published_event(ORGANIZER, capacity=capacity)
        for person in people:
            self.register(event_id, person)
        return event_id

    def register(self, event_id: int, person: int) -> Registration:
        return self.running.registrations.register(event_id, caller(person))

    def cancel(self, event_id: int, person: int) -> None:
        self.running.registrations.cancel(event_id, caller(person))

    def accept(self, event_id: int, person: int) -> Registration:
        return self.running.registrations.accept(event_id, caller(person))

    def expire(self, *, after: timedelta) -> None:
        self.now += after
        self.running.registrations.expire_offers()

    def learn(self, event_id: int, version: int, **changes: Any) -> None:
        event = self.running.catalog.describe(event_id).model_dump(mode="json")
        self.running.registrations.learn_events([EventFacts.of_event({**event, "version": version, **changes})])

    def statuses(self, event_id: int) -> dict[int, str]:
        """Of everyone whose registration is not cancelled, with the position of who waits."""
        page = self.running.registrations.of_event(event_id, PageQuery(limit=100), caller(ORGANIZER))
        return {
            each.user_id: f"waiting {each.position}" if each.status == "waitlisted" else each.status
            for each in page.items
            if each.status != "cancelled"
        }

    def latest(self, event_id: int) -> dict[int, str]:
        """What was told last of everyone."""
        return {each["payload"]["user_id"]: each["payload"]["status"] for each in self.told(event_id)}

    def told(self, event_id: int) -> list[dict[str, Any]]:
        with administrator(self.url) as connection:
            return connection.execute(
                """
                SELECT type, actor_id, payload FROM messaging.outbox
                 WHERE aggregate_type = 'registration' AND partition_key = %s ORDER BY id
                """,
                (str(event_id),),
            ).fetchall()


@pytest.fixture
def world(migrated_database: str) -> Iterator[World]:
    made = World(migrated_database)
    with services(migrated_database, clock=lambda: made.now) as running:
        made.running = running
        yield made


# Cancelling --------------------------------------------------------------------------------------


def test_a_cancelled_place_is_free_at_once_for_the_next(world: World) -> None:
    event_id = world.event(1, ADA)

    world.cancel(event_id, ADA)

    assert world.register(event_id, GRACE).status == "active"


def test_who_has_cancelled_may_come_again_at_the_end_of_the_line(world: World) -> None:
    event_id = world.event(1, ADA, GRACE, ALAN)

    world.cancel(event_id, GRACE)

    assert world.register(event_id, GRACE).position == 2
    assert world.statuses(event_id) == {ADA: "active", ALAN: "waiting 1", GRACE: "waiting 2"}


def test_leaving_the_line_moves_up_those_behind(world: World) -> None:
    event_id = world.event(1, ADA, GRACE, ALAN, EDSGER)

    world.cancel(event_id, ALAN)

    assert world.statuses(event_id) == {ADA: "active", GRACE: "waiting 1", EDSGER: "waiting 2"}


def test_only_who_is_registered_can_cancel_and_only_once(world: World) -> None:
    event_id = world.event(1, ADA)
    world.cancel(event_id, ADA)

    for person in (ADA, GRACE):
        with pytest.raises(NotFoundError, match="not registered"):
            world.cancel(event_id, person)


def test_nobody_cancels_once_the_event_has_started(world: World) -> None:
    event_id = world.event(1, ADA)
    world.now += timedelta(days=31)

    with pytest.raises(ConflictError, match="started"):
        world.cancel(event_id, ADA)


# Offers ------------------------------------------------------------------------------------------


def test_a_freed_place_is_offered_to_the_first_in_line_and_held_for_them(world: World) -> None:
    event_id = world.event(1, ADA, GRACE, ALAN)

    world.cancel(event_id, ADA)

    assert world.statuses(event_id) == {GRACE: "offered", ALAN: "waiting 1"}
    assert world.register(event_id, EDSGER).status == "waitlisted"


def test_an_offer_that_is_accepted_is_a_registration(world: World) -> None:
    event_id = world.event(1, ADA, GRACE)
    world.cancel(event_id, ADA)

    accepted = world.accept(event_id, GRACE)

    assert (accepted.status, accepted.offer_expires_at) == ("active", None)
    world.expire(after=OFFER_LIFETIME * 2)
    assert world.statuses(event_id) == {GRACE: "active"}


def test_an_offer_that_is_declined_goes_to_the_next(world: World) -> None:
    event_id = world.event(1, ADA, GRACE, ALAN)
    world.cancel(event_id, ADA)

    world.cancel(event_id, GRACE)

    assert world.statuses(event_id) == {ALAN: "offered"}


def test_an_offer_that_expires_goes_to_the_next_and_from_the_last_back_to_all(world: World) -> None:
    event_id = world.event(1, ADA, GRACE, ALAN)
    world.cancel(event_id, ADA)

    world.expire(after=OFFER_LIFETIME)
    assert world.statuses(event_id) == {ALAN: "offered"}
    world.expire(after=OFFER_LIFETIME)
    assert world.statuses(event_id) == {}

    assert world.register(event_id, GRACE).status == "active"


def test_an_offer_that_has_expired_is_passed_on_even_before_the_sweep(world: World) -> None:
    event_id = world.event(1, ADA, GRACE)
    world.cancel(event_id, ADA)
    world.now += OFFER_LIFETIME

    with pytest.raises(ConflictError, match="expired"):
        world.accept(event_id, GRACE)

    assert world.register(event_id, ALAN).status == "active"


def test_an_offer_lasts_no_longer_than_until_the_event_starts(world: World) -> None:
    event_id = world.event(1, ADA, GRACE)
    starts_at = world.running.catalog.describe(event_id).starts_at
    world.now = starts_at - timedelta(hours=1)

    world.cancel(event_id, ADA)

    page = world.running.registrations.of_user(PageQuery(), caller(GRACE))
    assert [(each.status, each.offer_expires_at) for each in page.items if each.event_id == event_id] == [
        ("offered", starts_at)
    ]


@pytest.mark.parametrize(("people", "status"), [((ADA,), "active"), ((ADA, GRACE), "waitlisted")])
def test_there_is_nothing_to_accept_without_an_offer(world: World, people: tuple[int, ...], status: str) -> None:
    event_id = world.event(1, *people)

    with pytest.raises(ConflictError, match=f"your registration is {status}"):
        world.accept(event_id, people[-1])
    with pytest.raises(NotFoundError, match="not registered"):
        world.accept(event_id, BARBARA)


# Capacity ----------------------------------------------------------------------------------------


def test_more_places_are_offered_to_the_line_in_order_and_the_rest_are_free(world: World) -> None:
    event_id = world.event(1, ADA, GRACE, ALAN)

    world.learn(event_id, 3, capacity=4)

    assert world.statuses(event_id) == {ADA: "active", GRACE: "offered", ALAN: "offered"}
    assert world.register(event_id, EDSGER).status == "active"
    assert world.register(event_id, BARBARA).status == "waitlisted"


def test_many_more_places_are_offered_in_several_transactions(world: World) -> None:
    people = range(1_000, 1_000 + 250)
    event_id = world.event(1, ADA, *people)

    world.learn(event_id, 3, capacity=231)

    statuses = world.latest(event_id)
    assert [statuses[person] for person in people] == ["offered"] * 230 + ["waitlisted"] * 20


def test_more_offers_than_one_transaction_ends_may_expire_at_once(world: World) -> None:
    event_id = world.event(1, ADA, *range(1_000, 1_000 + 350))
    world.learn(event_id, 3, capacity=151)

    # When they have, and someone comes before the sweep
    world.now += OFFER_LIFETIME
    registered = world.register(event_id, GRACE)

    # Then all their places are offered to those who come next, and the newcomer is the last in line
    assert (registered.status, registered.position) == ("waitlisted", 51)
    assert Counter(world.latest(event_id).values()) == {"active": 1, "cancelled": 150, "offered": 150, "waitlisted": 51}


def test_fewer_places_than_are_taken_free_none_until_there_are_as_few_again(world: World) -> None:
    event_id = world.event(3, ADA, GRACE, ALAN)

    world.learn(event_id, 3, capacity=2)
    world.cancel(event_id, ADA)

    assert world.register(event_id, EDSGER).status == "waitlisted"
    world.cancel(event_id, GRACE)
    assert world.statuses(event_id) == {ALAN: "active", EDSGER: "offered"}


def test_a_lower_capacity_is_accepted_unless_more_places_are_taken(world: World) -> None:
    event_id = world.event(5, ADA, GRACE)
    event = EventFacts.of_event(world.running.catalog.describe(event_id).model_dump(mode="json"))

    refused = world.running.registrations.accept_capacity([event], 1)[event_id]
    accepted = world.running.registrations.accept_capacity([event], 2)[event_id]

    assert (refused.accepted, refused.taken) == (False, 2)
    assert (accepted.accepted, accepted.taken) == (True, 2)
    assert world.register(event_id, ALAN).status == "waitlisted"


def test_the_places_of_an_event_that_is_off_are_offered_to_nobody(world: World) -> None:
    event_id = world.event(1, ADA, GRACE)
    world.learn(event_id, 3, status="cancelled")

    world.cancel(event_id, ADA)

    assert world.statuses(event_id) == {GRACE: "waiting 1"}


# What is told and shown --------------------------------------------------------------------------


def test_each_change_is_told_once_with_counts_that_add_up_at_the_catalog(world: World) -> None:
    event_id = world.event(1, ADA, GRACE, ALAN)
    world.cancel(event_id, ADA)
    world.accept(event_id, GRACE)

    told = world.told(event_id)

    assert [(each["type"].partition(".")[2], each["payload"]["user_id"], each["actor_id"]) for each in told] == [
        ("created", ADA, ADA),
        ("waitlisted", GRACE, GRACE),
        ("waitlisted", ALAN, ALAN),
        ("cancelled", ADA, ADA),
        ("offered", GRACE, None),
        ("created", GRACE, GRACE),
    ]
    totals = [each["payload"]["counts"] for each in told]
    assert [(each["registered"], each["waitlisted"], each["available"]) for each in totals] == [
        (1, 0, 0),
        (1, 1, 0),
        (1, 2, 0),
        (1, 1, 0),
        (1, 1, 0),
        (1, 1, 0),
    ]
    world.running.catalog.learn_counts([ToldRegistration.model_validate(each["payload"]) for each in reversed(told)])
    event = world.running.catalog.get(event_id, None)
    assert (event.registered, event.waitlisted) == (1, 1)


def test_the_catalog_counts_an_accepted_offer_once(world: World) -> None:
    # Given two places in two parts, of which one was freed and offered
    event_id = world.event(2, ADA, GRACE, ALAN)
    world.cancel(event_id, ADA)
    world.accept(event_id, ALAN)

    for each in world.told(event_id):
        world.running.catalog.learn_counts([ToldRegistration.model_validate(each["payload"])])

    event = world.running.catalog.get(event_id, None)
    assert (event.registered, event.waitlisted, event.available) == (2, 0, 0)


def test_an_organiser_pages_through_all_registrations_in_their_order(world: World) -> None:
    people = range(2_000, 2_007)
    event_id = world.event(3, *people)

    seen: list[Registration] = []
    cursor: str | None = None
    while cursor or not seen:
        page = world.running.registrations.of_event(event_id, PageQuery(limit=2, cursor=cursor), caller(ORGANIZER))
        seen += page.items
        cursor = page.next_cursor

    assert [(each.user_id, each.position) for each in seen] == [
        (2_000, None),
        (2_001, None),
        (2_002, None),
        (2_003, 1),
        (2_004, 2),
        (2_005, 3),
        (2_006, 4),
    ]


def test_nobody_else_sees_who_has_registered(world: World) -> None:
    event_id = world.event(1, ADA)

    with pytest.raises(ForbiddenError):
        world.running.registrations.of_event(event_id, PageQuery(), caller(ADA))


def test_ones_own_registrations_come_the_latest_first(world: World) -> None:
    someone = 40
    events = [world.event(1, someone) for _ in range(3)]
    world.cancel(events[1], someone)

    first = world.running.registrations.of_user(PageQuery(limit=2), caller(someone))
    second = world.running.registrations.of_user(PageQuery(limit=2, cursor=first.next_cursor), caller(someone))

    assert [(each.event_id, each.status) for each in first.items[:2] + second.items[:1]] == [
        (events[2], "active"),
        (events[1], "cancelled"),
        (events[0], "active"),
    ]


@pytest.mark.parametrize("cursor", ["WzFd", "WyJ4IiwxXQ", "WyIyMDI2LTAxLTAxIiwxXQ", "WzEsMV0", "%"])
def test_a_cursor_of_something_else_is_refused(world: World, cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="not a cursor of this list"):
        world.running.registrations.of_user(PageQuery(cursor=cursor), caller(ADA))
