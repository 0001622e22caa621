"""Any sequence of acts leaves an event as a model of the rules says, and a recount after each of them adds up."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from eventsplatform.errors import ConflictError, NotFoundError
from eventsplatform.registrations.lifecycle import OFFER_LIFETIME
from eventsplatform.registrations.model import EventFacts, PageQuery
from eventsplatform.registrations.repository import PostgresRegistrations
from tests.support.callers import caller
from tests.support.database import services
from tests.support.doors import by_list
from tests.support.recount import violations

ORGANIZER = 21
PEOPLE = st.integers(100, 107)


class Rules:
    """What is to happen, without a database: places, offers with their ends, and a line."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.active: set[int] = set()
        self.present: set[int] = set()
        self.offers: dict[int, datetime] = {}
        self.line: list[int] = []

    @property
    def taken(self) -> int:
        return len(self.active) + len(self.present) + len(self.offers)

    def settle(self, now: datetime) -> None:
        self.offers = {person: end for person, end in self.offers.items() if end > now}
        while self.line and self.taken < self.capacity:
            self.offers[self.line.pop(0)] = now + OFFER_LIFETIME

    def register(self, person: int, now: datetime) -> None:
        if self.line or self.taken >= self.capacity:
            self.settle(now)
        if self.line or self.taken >= self.capacity:
            self.line.append(person)
        else:
            self.active.add(person)

    def leave(self, person: int) -> None:
        self.active.discard(person)
        self.offers.pop(person, None)
        if person in self.line:
            self.line.remove(person)

    def knows(self, person: int) -> bool:
        return person in self.active | self.present or person in self.offers or person in self.line

    def statuses(self) -> dict[int, str]:
        return {
            **dict.fromkeys(self.active, "active"),
            **dict.fromkeys(self.present, "checked_in"),
            **dict.fromkeys(self.offers, "offered"),
            **{person: f"waiting {position}" for position, person in enumerate(self.line, 1)},
        }


class Lifecycle(RuleBasedStateMachine):
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime.now(UTC)
        self._stack = ExitStack()
        self.running = self._stack.enter_context(services(self.url, clock=lambda: self.now))
        self.registrations = self.running.registrations
        self.event_id = self.running.published_event(ORGANIZER, capacity=2)
        self.version = 2
        self.rules = Rules(2)

    def teardown(self) -> None:
        self._stack.close()

    @rule(person=PEOPLE)
    def register(self, person: int) -> None:
        if self.rules.knows(person):
            with pytest.raises(ConflictError):
                self.registrations.register(self.event_id, caller(person))
            return
        self.rules.register(person, self.now)
        registration = self.registrations.register(self.event_id, caller(person))
        waits = person in self.rules.line
        assert (registration.status, registration.position) == (
            ("waitlisted", len(self.rules.line)) if waits else ("active", None)
        )

    @rule(person=PEOPLE)
    def cancel(self, person: int) -> None:
        if not self.rules.knows(person):
            with pytest.raises(NotFoundError):
                self.registrations.cancel(self.event_id, caller(person))
            return
        if person in self.rules.present:
            with pytest.raises(ConflictError):
                self.registrations.cancel(self.event_id, caller(person))
            return
        self.rules.leave(person)
        self.rules.settle(self.now)
        self.registrations.cancel(self.event_id, caller(person))

    @rule(person=PEOPLE)
    def accept(self, person: int) -> None:
        end = self.rules.offers.get(person)
        if end is None or end <= self.now:
            with pytest.raises((ConflictError, NotFoundError)):
                self.registrations.accept(self.event_id, caller(person))
            return
        del self.rules.offers[person]
        self.rules.active.add(person)
        assert self.registrations.accept(self.event_id, caller(person)).status == "active"

    @rule(hours=st.sampled_from([1, 25]), swept=st.booleans())
    @precondition(lambda self: self.rules.offers)
    def time_passes(self, hours: int, *, swept: bool) -> None:
        self.now += timedelta(hours=hours)
        if swept:
            self._sweep()

    @rule(capacity=st.integers(1, 4))
    def change_capacity(self, capacity: int) -> None:
        self._sweep()
        self.version += 1
        self.rules.capacity = capacity
        self.rules.settle(self.now)
        event = self.running.catalog.describe(self.event_id).model_dump(mode="json")
        changed = {**event, "version": self.version, "capacity": capacity}
        self.registrations.learn_events([EventFacts.of_event(changed)])

    def _sweep(self) -> None:
        self.rules.settle(self.now)
        self.registrations.expire_offers()

    @invariant()
    def everyone_is_what_the_rules_say(self) -> None:
        page = self.registrations.of_event(self.event_id, PageQuery(limit=100), caller(ORGANIZER))
        statuses = {
            each.user_id: f"waiting {each.position}" if each.status == "waitlisted" else each.status
            for each in page.items
            if each.status != "cancelled"
        }
        if page.next_cursor is None:
            assert statuses == self.rules.statuses()

    @invariant()
    def a_recount_adds_up(self) -> None:
        # Lowering a capacity takes nobody's place, and an offer whose time is up holds its place until it is looked at.
        capacity = max(self.rules.capacity, self.rules.taken)
        unswept = any(end <= self.now for end in self.rules.offers.values())
        found = violations(self.url, self.event_id, capacity)
        assert [each for each in found if not (unswept and each == "places are free while people wait")] == []


class LifecycleWithDoor(Lifecycle):
    """People come, too, and what was a mistake of it is undone."""

    @rule(person=PEOPLE)
    @precondition(lambda self: self.rules.active or self.rules.present)
    def check_in(self, person: int) -> None:
        registration_id = self._registration_of(person)
        if person not in self.rules.active:
            with pytest.raises((ConflictError, NotFoundError)):
                self.running.check_ins.check_in(self.event_id, by_list(registration_id), caller(ORGANIZER))
            return
        self.rules.active.remove(person)
        self.rules.present.add(person)
        self.running.check_ins.check_in(self.event_id, by_list(registration_id), caller(ORGANIZER))

    @rule(person=PEOPLE)
    @precondition(lambda self: self.rules.present)
    def undo_check_in(self, person: int) -> None:
        registration_id = self._registration_of(person)
        if person not in self.rules.present:
            with pytest.raises(NotFoundError):
                self.running.check_ins.undo(self.event_id, registration_id, caller(ORGANIZER))
            return
        self.rules.present.remove(person)
        self.rules.active.add(person)
        self.running.check_ins.undo(self.event_id, registration_id, caller(ORGANIZER))

    def _registration_of(self, person: int) -> int:
        """The person's last one; a number that nobody has without any."""
        items = self.registrations.of_user(PageQuery(limit=100), caller(person)).items
        return next((each.id for each in items if each.event_id == self.event_id), 2**62)


BOUNDED = settings(
    max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


def on_database(machine: type[Lifecycle], url: str) -> type[Lifecycle]:
    return type(f"{machine.__name__}OnDatabase", (machine,), {"url": url})


def test_any_sequence_of_acts_follows_the_rules(migrated_database: str) -> None:
    run_state_machine_as_test(on_database(LifecycleWithDoor, migrated_database), settings=BOUNDED)


def test_a_store_that_makes_no_offers_would_be_seen(migrated_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a store that offers what is freed to nobody."""
    monkeypatch.setattr(PostgresRegistrations, "offer", lambda *_: [])

    machine = on_database(Lifecycle, migrated_database)
    with pytest.raises(AssertionError):
        # As many examples as it takes: it ends with the first one that frees a place which someone waits for.
        run_state_machine_as_test(machine, settings=settings(BOUNDED, max_examples=200, phases=[Phase.generate]))
