"""Checking people in at the door of an event, at once and from devices that were offline, and taking it back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from eventsplatform.catalog.model import ToldRegistration
from eventsplatform.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.registrations.admission.model import (
    CLOCK_SKEW,
    CheckIn,
    DoorBundle,
    DoorQuery,
    OfflineScan,
    SyncedScans,
)
from eventsplatform.registrations.model import PageQuery
from tests.support.callers import caller
from tests.support.database import Services, administrator, event_in, services
from tests.support.doors import by_list, offline, project, ticket
from tests.support.recount import violations

ORGANIZER, MANAGER, STEWARD, STRANGER = 81, 82, 83, 84
ADA, GRACE, ALAN = 91, 92, 93
MINUTE = timedelta(minutes=1)


@dataclass
class World:
    """The services, with a clock that the test moves, and an event with a team."""

    url: str
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    running: Services = field(init=False)

    def event(self, capacity: int = 100) -> int:
        event_id = self.running.published_event(ORGANIZER, capacity=capacity)
        self.running.teams.put(event_id, MANAGER, "manager", caller(ORGANIZER))
        self.running.teams.put(event_id, STEWARD, "check_in", caller(ORGANIZER))
        project(self.running, event_id)
        return event_id

    def register(self, event_id: int, person: int) -> int:
        return self.running.registrations.register(event_id, caller(person)).id

    def token(self, event_id: int, person: int) -> str:
        """Of a new registration."""
        return self.running.tickets.of(self.register(event_id, person), caller(person)).token

    def check_in(self, event_id: int, token: str, by: int = STEWARD) -> CheckIn:
        return self.running.check_ins.check_in(event_id, ticket(token), caller(by))

    def sync(self, event_id: int, *scans: OfflineScan, by: int = STEWARD) -> SyncedScans:
        return self.running.check_ins.sync(event_id, scans, caller(by))

    def undo(self, event_id: int, registration_id: int) -> None:
        self.running.check_ins.undo(event_id, registration_id, caller(STEWARD))

    def bundle(self, event_id: int, since: int = 0) -> DoorBundle:
        return self.running.check_ins.bundle(event_id, DoorQuery(since=since), caller(STEWARD))

    def outcomes(self, event_id: int, *scans: OfflineScan, by: int = STEWARD) -> list[str]:
        return [each.outcome for each in self.sync(event_id, *scans, by=by).items]

    def told(self, event_id: int) -> list[dict[str, Any]]:
        with administrator(self.url) as connection:
            return connection.execute(
                """
                SELECT type, version, actor_id, payload FROM messaging.outbox
                 WHERE aggregate_type = 'registration' AND partition_key = %s ORDER BY id
                """,
                (str(event_id),),
            ).fetchall()

    def adds_up(self, event_id: int, capacity: int = 100) -> bool:
        assert violations(self.url, event_id, capacity) == []
        return True


@pytest.fixture
def world(migrated_database: str) -> Iterator[World]:
    made = World(migrated_database)
    with services(migrated_database, clock=lambda: made.now) as running:
        made.running = running
        yield made


# One after the other -----------------------------------------------------------------------------


def test_a_ticket_lets_in_once_and_the_second_time_it_is_told_who_and_when(world: World) -> None:
    event_id = world.event()
    token = world.token(event_id, ADA)
    world.now += MINUTE

    first = world.check_in(event_id, token)
    world.now += MINUTE
    with pytest.raises(ConflictError) as refused:
        world.check_in(event_id, token, by=MANAGER)

    assert (first.user_id, first.checked_in_by, first.checked_in_at) == (ADA, STEWARD, world.now - MINUTE)
    assert f"by user {STEWARD}" in refused.value.detail
    assert refused.value.extensions == {
        "outcome": "already_checked_in",
        "check_in": first.model_dump(mode="json"),
    }
    assert world.adds_up(event_id)


def test_it_is_told_with_who_did_it_and_the_counts_as_they_are(world: World) -> None:
    event_id = world.event(capacity=5)
    tokens = [world.token(event_id, person) for person in (ADA, GRACE, ALAN)]
    told_before = len(world.told(event_id))

    for token in tokens[:2]:
        world.check_in(event_id, token)

    (first, second) = world.told(event_id)[told_before:]
    assert (first["type"], first["version"], first["actor_id"]) == ("registrations.checked_in", 2, STEWARD)
    assert (first["payload"]["user_id"], first["payload"]["status"]) == (ADA, "checked_in")
    assert first["payload"]["check_in"]["checked_in_by"] == STEWARD
    counts = second["payload"]["counts"]
    assert {name: counts[name] for name in ("registered", "waitlisted", "available", "checked_in")} == {
        "registered": 3,
        "waitlisted": 0,
        "available": 2,
        "checked_in": 2,
    }


def test_the_catalogs_counts_are_what_they_were(world: World) -> None:
    """Whatever order its messages come in: those of the door tell of a part what is known of it."""
    event_id = world.event(capacity=5)
    for person in (ADA, GRACE, ALAN):
        world.check_in(event_id, world.token(event_id, person))
    messages = [ToldRegistration.model_validate(row["payload"]) for row in world.told(event_id)]

    for order in (messages, messages[::-1]):
        world.running.catalog.learn_counts(order)
        event = world.running.catalog.get(event_id, caller(ORGANIZER))
        assert (event.registered, event.waitlisted, event.available) == (3, 0, 2)


def test_who_is_in_keeps_the_place_and_cannot_give_it_up(world: World) -> None:
    event_id = world.event(capacity=1)
    world.check_in(event_id, world.token(event_id, ADA))

    with pytest.raises(ConflictError, match="checked in"):
        world.running.registrations.cancel(event_id, caller(ADA))
    assert world.running.registrations.register(event_id, caller(GRACE)).status == "waitlisted"
    assert world.adds_up(event_id, 1)


def test_someone_on_the_list_comes_in_without_a_ticket(world: World) -> None:
    event_id = world.event()
    registration_id = world.register(event_id, ADA)

    checked_in = world.running.check_ins.check_in(event_id, by_list(registration_id), caller(STEWARD))

    assert checked_in.user_id == ADA
    assert world.adds_up(event_id)


@pytest.mark.parametrize("member", [ORGANIZER, MANAGER, STEWARD])
def test_everyone_in_the_team_checks_in(world: World, member: int) -> None:
    event_id = world.event()

    assert world.check_in(event_id, world.token(event_id, ADA), by=member).checked_in_by == member


@pytest.mark.parametrize("person", [STRANGER, ADA])
def test_nobody_else_does(world: World, person: int) -> None:
    event_id = world.event()
    token = world.token(event_id, ADA)
    check_ins, who = world.running.check_ins, caller(person)

    for act in (
        lambda: check_ins.check_in(event_id, ticket(token), who),
        lambda: check_ins.sync(event_id, [offline(token, world.now)], who),
        lambda: check_ins.undo(event_id, 1, who),
        lambda: check_ins.bundle(event_id, DoorQuery(), who),
        lambda: check_ins.of_event(event_id, PageQuery(), who),
    ):
        with pytest.raises(ForbiddenError):
            act()
        assert world.bundle(event_id).checked_in == 0


def test_an_event_that_the_catalog_has_not_told_of_yet_is_asked_for(world: World) -> None:
    event_id = world.running.published_event(ORGANIZER)

    bundle = world.running.check_ins.bundle(event_id, DoorQuery(), caller(ORGANIZER))

    assert (bundle.status, bundle.attendees, bundle.until) == ("published", 0, 0)


@pytest.mark.parametrize("status", ["draft", None])
def test_there_is_no_door_of_what_is_no_event_yet(world: World, status: str | None) -> None:
    event_id = world.running.catalog.create(event_in(), caller(ORGANIZER)).id if status else 2**60

    with pytest.raises(NotFoundError):
        world.running.check_ins.bundle(event_id, DoorQuery(), caller(ORGANIZER))
    with pytest.raises(NotFoundError):
        world.running.check_ins.check_in(event_id, by_list(1), caller(ORGANIZER))


def test_nobody_comes_to_a_cancelled_event(world: World) -> None:
    event_id = world.event()
    token = world.token(event_id, ADA)
    world.running.catalog.cancel(event_id, None, caller(ORGANIZER))
    project(world.running, event_id)

    with pytest.raises(ConflictError, match="The event is cancelled"):
        world.check_in(event_id, token)
    with pytest.raises(ConflictError, match="The event is cancelled"):
        world.sync(event_id, offline(token, world.now))


# Tickets that are none ---------------------------------------------------------------------------


def test_a_ticket_of_another_event_lets_nobody_in(world: World) -> None:
    """Not even of the same people and the same team."""
    here, elsewhere = world.event(), world.event()
    token = world.token(elsewhere, ADA)
    world.register(here, ADA)

    with pytest.raises(InvalidInputError, match="another event"):
        world.check_in(here, token)
    assert world.outcomes(here, offline(token, world.now)) == ["other_event"]
    assert world.bundle(here).checked_in == 0


def test_a_registration_for_another_event_is_not_on_the_list(world: World) -> None:
    here, elsewhere = world.event(), world.event()
    registration_id = world.register(elsewhere, ADA)

    with pytest.raises(NotFoundError):
        world.running.check_ins.check_in(here, by_list(registration_id), caller(STEWARD))
    with pytest.raises(NotFoundError):
        world.undo(here, registration_id)


def test_what_is_no_ticket_lets_nobody_in(world: World) -> None:
    event_id = world.event()
    token = world.token(event_id, ADA)
    header, content, signature = token.split(".")

    for forged in ("let me in", f"{header}.{content}.{'A' * 86}", f"{header}.{content[:-4]}AAAA.{signature}"):
        with pytest.raises(InvalidInputError, match="not a ticket"):
            world.check_in(event_id, forged)
        assert world.outcomes(event_id, offline(forged, world.now)) == ["forged"]


def test_a_ticket_that_was_issued_again_lets_nobody_in(world: World) -> None:
    event_id = world.event()
    registration_id = world.register(event_id, ADA)
    old = world.running.tickets.of(registration_id, caller(ADA)).token
    world.now += MINUTE
    new = world.running.tickets.reissue(registration_id, caller(ADA)).token

    with pytest.raises(ConflictError) as refused:
        world.check_in(event_id, old)
    assert refused.value.extensions == {"outcome": "revoked"}
    assert world.check_in(event_id, new).user_id == ADA


def test_a_ticket_of_a_cancelled_registration_lets_nobody_in(world: World) -> None:
    event_id = world.event()
    token = world.token(event_id, ADA)
    world.running.registrations.cancel(event_id, caller(ADA))

    with pytest.raises(ConflictError) as refused:
        world.check_in(event_id, token)
    assert refused.value.extensions == {"outcome": "cancelled"}

    again = world.token(event_id, ADA)
    with pytest.raises(ConflictError):
        world.check_in(event_id, token)
    assert world.check_in(event_id, again).user_id == ADA
    assert world.adds_up(event_id)


def test_who_waits_in_line_is_not_let_in(world: World) -> None:
    event_id = world.event(capacity=1)
    world.register(event_id, ADA)
    waiting = world.register(event_id, GRACE)

    with pytest.raises(ConflictError) as refused:
        world.running.check_ins.check_in(event_id, by_list(waiting), caller(STEWARD))
    assert refused.value.extensions == {"outcome": "waiting"}


# Devices that were offline -----------------------------------------------------------------------


def test_scans_that_were_made_offline_have_their_own_time(world: World) -> None:
    event_id = world.event()
    tokens = [world.token(event_id, person) for person in (ADA, GRACE)]
    door_opened = world.now + MINUTE
    world.now += timedelta(hours=3)

    results = world.sync(event_id, offline(tokens[0], door_opened), offline(tokens[1], door_opened + MINUTE)).items

    assert [each.outcome for each in results] == ["checked_in", "checked_in"]
    assert [each.check_in.checked_in_at for each in results if each.check_in] == [door_opened, door_opened + MINUTE]
    assert world.adds_up(event_id)


def test_scans_that_are_sent_again_have_the_results_they_had(world: World) -> None:
    event_id = world.event()
    tokens = [world.token(event_id, person) for person in (ADA, GRACE)]
    scans = [offline(token, world.now) for token in (tokens[0], tokens[1], tokens[0], "no ticket")]

    first = world.sync(event_id, *scans)
    told = world.told(event_id)
    world.now += MINUTE
    again = world.sync(event_id, *scans)

    assert [each.outcome for each in first.items] == ["checked_in", "checked_in", "already_checked_in", "forged"]
    assert again == first
    assert world.told(event_id) == told
    assert world.adds_up(event_id)


def test_a_single_scan_that_is_sent_again_has_the_result_it_had(world: World) -> None:
    event_id = world.event()
    token, scan_id = world.token(event_id, ADA), uuid4()

    first = world.running.check_ins.check_in(event_id, ticket(token, scan_id), caller(STEWARD))
    world.now += MINUTE

    assert world.running.check_ins.check_in(event_id, ticket(token, scan_id), caller(STEWARD)) == first
    with pytest.raises(ConflictError):
        world.check_in(event_id, token)


def test_a_refusal_is_kept_for_a_repeat_of_the_request_too(world: World) -> None:
    event_id = world.event()
    token = world.token(event_id, ADA)
    checked_in = world.check_in(event_id, token)
    path = f"/v1/events/{event_id}/check-ins"

    refusals = []
    for _ in range(2):
        named = NamedRequest.of(caller=str(STEWARD), method="POST", path=path, key="scan-1", content=b"", secret=False)
        with handling_request(named), pytest.raises(ConflictError) as refused:
            world.check_in(event_id, token)
        refusals.append((refused.value.as_record(), named.replayed))
        if not named.replayed:
            world.undo(event_id, checked_in.registration_id)

    (first, first_is_repeat), (again, again_is_repeat) = refusals
    assert (first, first_is_repeat, again_is_repeat) == (again, False, True)


def test_of_two_devices_the_first_that_tells_of_a_ticket_has_let_it_in(world: World) -> None:
    """What was acknowledged stays: the other one is told who and when, however early it scanned."""
    event_id = world.event()
    token = world.token(event_id, ADA)
    early, late = world.now + MINUTE, world.now + 2 * MINUTE
    world.now += timedelta(hours=1)

    first = world.sync(event_id, offline(token, late), by=MANAGER).items[0]
    second = world.sync(event_id, offline(token, early), by=STEWARD).items[0]

    assert (first.outcome, second.outcome) == ("checked_in", "already_checked_in")
    assert second.check_in is not None
    assert (second.check_in.checked_in_by, second.check_in.checked_in_at) == (MANAGER, late)


def test_of_the_scans_of_one_device_the_first_lets_in(world: World) -> None:
    event_id = world.event()
    token = world.token(event_id, ADA)
    early, late = world.now + MINUTE, world.now + 2 * MINUTE
    world.now += timedelta(hours=1)

    assert world.outcomes(event_id, offline(token, late), offline(token, early)) == [
        "already_checked_in",
        "checked_in",
    ]


@pytest.mark.parametrize(
    ("off", "outcome"),
    [
        (CLOCK_SKEW + MINUTE, "implausible_time"),
        (-CLOCK_SKEW - MINUTE, "implausible_time"),
        (MINUTE, "checked_in"),
        (-MINUTE, "checked_in"),
    ],
)
def test_a_clock_that_is_too_far_off_is_not_believed(world: World, off: timedelta, outcome: str) -> None:
    event_id = world.event()
    token = world.token(event_id, ADA)

    assert world.outcomes(event_id, offline(token, world.now + off)) == [outcome]


def test_a_ticket_that_was_good_when_it_was_scanned_has_let_in(world: World) -> None:
    event_id = world.event()
    registration_id = world.register(event_id, ADA)
    old = world.running.tickets.of(registration_id, caller(ADA)).token
    world.now += timedelta(hours=1)
    scanned = world.now
    world.now += MINUTE
    world.running.tickets.reissue(registration_id, caller(ADA))
    world.now += MINUTE

    assert world.outcomes(event_id, offline(old, world.now)) == ["revoked"]
    assert world.outcomes(event_id, offline(old, scanned)) == ["checked_in"]


def test_devices_may_tell_after_the_event(world: World) -> None:
    event_id = world.event()
    token = world.token(event_id, ADA)
    starts_at = world.running.catalog.get(event_id, None).starts_at
    world.now = starts_at + timedelta(days=2)
    while world.running.catalog.complete_ended():
        pass
    project(world.running, event_id)

    assert world.bundle(event_id).status == "completed"
    assert world.outcomes(event_id, offline(token, starts_at)) == ["checked_in"]


# Undoing -----------------------------------------------------------------------------------------


def test_a_mistake_is_undone_and_the_ticket_lets_in_again(world: World) -> None:
    event_id = world.event()
    token = world.token(event_id, ADA)
    checked_in = world.check_in(event_id, token)

    world.undo(event_id, checked_in.registration_id)

    assert world.adds_up(event_id)
    assert world.bundle(event_id).checked_in == 0
    told = world.told(event_id)[-1]
    assert (told["type"], told["version"], told["actor_id"]) == ("registrations.check_in_undone", 3, STEWARD)
    assert (told["payload"]["status"], told["payload"]["counts"]["checked_in"]) == ("active", 0)
    with pytest.raises(NotFoundError):
        world.undo(event_id, checked_in.registration_id)
    assert world.check_in(event_id, token).scan_id != checked_in.scan_id
    assert world.adds_up(event_id)


def test_a_scan_that_was_undone_does_not_come_back_when_it_is_sent_again(world: World) -> None:
    event_id = world.event()
    scan = offline(world.token(event_id, ADA), world.now)
    (result,) = world.sync(event_id, scan).items
    assert result.registration_id is not None

    world.undo(event_id, result.registration_id)

    assert world.outcomes(event_id, scan) == ["undone"]
    assert world.bundle(event_id).checked_in == 0


def test_who_was_checked_in_by_mistake_can_cancel_again(world: World) -> None:
    event_id = world.event(capacity=1)
    checked_in = world.check_in(event_id, world.token(event_id, ADA))
    world.undo(event_id, checked_in.registration_id)

    world.running.registrations.cancel(event_id, caller(ADA))

    assert world.running.registrations.register(event_id, caller(GRACE)).status == "active"
    assert world.adds_up(event_id, 1)


# What is known at the door -----------------------------------------------------------------------


def test_a_device_learns_what_has_changed_since_it_last_asked(world: World) -> None:
    event_id = world.event()
    ada, grace, alan = (world.register(event_id, person) for person in (ADA, GRACE, ALAN))
    before = world.bundle(event_id)
    assert (before.attendees, before.checked_in, before.revoked, before.check_ins) == (3, 0, [], [])

    world.running.registrations.cancel(event_id, caller(ADA))
    world.running.check_ins.check_in(event_id, by_list(grace), caller(STEWARD))
    world.running.tickets.reissue(alan, caller(ALAN))
    after = world.bundle(event_id, before.until)

    assert (after.attendees, after.checked_in, after.more) == (2, 1, False)
    assert [(each.registration_id, each.serial) for each in after.revoked] == [(ada, 1), (alan, 1)]
    assert [(each.registration_id, each.checked_in_by) for each in after.check_ins] == [(grace, STEWARD)]
    unchanged = world.bundle(event_id, after.until)
    assert (unchanged.revoked, unchanged.check_ins, unchanged.until) == ([], [], after.until)

    world.undo(event_id, grace)
    (undone,) = world.bundle(event_id, after.until).check_ins
    assert (undone.registration_id, undone.checked_in_at) == (grace, None)


def test_what_is_too_much_for_one_answer_comes_in_several(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventsplatform.registrations.admission.check_ins.CHANGES_MAXIMUM", 2)
    event_id = world.event()
    ids = [world.register(event_id, person) for person in range(100, 105)]
    for number, registration_id in enumerate(ids):
        if number % 2:
            world.running.registrations.cancel(event_id, caller(100 + number))
        else:
            world.running.check_ins.check_in(event_id, by_list(registration_id), caller(STEWARD))

    learnt, since, more, answers = [], 0, True, 0
    while more:
        bundle = world.bundle(event_id, since)
        learnt += [each.registration_id for each in (*bundle.revoked, *bundle.check_ins)]
        since, more, answers = bundle.until, bundle.more, answers + 1

    assert sorted(learnt) == ids
    assert answers == 3


def test_who_is_in_is_listed_the_last_one_first(world: World) -> None:
    event_id = world.event()
    tokens = {person: world.token(event_id, person) for person in (ADA, GRACE, ALAN)}
    for person in (GRACE, ADA, ALAN):
        checked_in = world.check_in(event_id, tokens[person])
    world.undo(event_id, checked_in.registration_id)
    check_ins, who = world.running.check_ins, caller(STEWARD)

    first = check_ins.of_event(event_id, PageQuery(limit=1), who)
    second = check_ins.of_event(event_id, PageQuery(limit=1, cursor=first.next_cursor), who)

    assert [each.user_id for each in (*first.items, *second.items)] == [ADA, GRACE]
    assert second.next_cursor is None
    with pytest.raises(InvalidInputError):
        check_ins.of_event(event_id, PageQuery(cursor="WyJ4Il0"), who)
