"""Asking registrations about fewer places of many events: in parts, and knowing what it may be holding down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from eventsplatform.catalog.lowering import ASKED_AT_ONCE, Lowering, NotSettledError
from eventsplatform.catalog.model import CapacityAnswer, KnownEvent
from eventsplatform.errors import ConflictError, DependencyUnavailableError
from tests.unit.core.test_occurrences import event


def events(count: int) -> list[KnownEvent]:
    return [event("2030-05-07T19:00Z", "2030-05-07T21:00Z", id=number, version=2) for number in range(1, count + 1)]


class Registrations:
    """Accepts everything but what is `full`, about which it says that seven places are taken."""

    def __init__(self, *, full: int | None = None, fails_after: int | None = None) -> None:
        self.asked: list[list[int]] = []
        self._full = full
        self._fails_after = fails_after

    def accept_capacity(self, events: Sequence[KnownEvent], capacity: int) -> Mapping[int, CapacityAnswer]:
        if len(self.asked) == self._fails_after:
            raise DependencyUnavailableError("database")
        self.asked.append([each.id for each in events])
        if self._full in self.asked[-1]:
            return {self._full: CapacityAnswer(accepted=False, taken=7)}
        return {each.id: CapacityAnswer(accepted=True, taken=0) for each in events}


def test_many_events_are_asked_about_in_parts_that_fit_into_an_invocation() -> None:
    registrations, many = Registrations(), events(2 * ASKED_AT_ONCE + 1)
    lowering = Lowering(registrations, 5)

    lowering.ask(many)

    assert [len(part) for part in registrations.asked] == [ASKED_AT_ONCE, ASKED_AT_ONCE, 1]
    lowering.require(many)
    assert lowering.asked == {each.id for each in many}


def test_after_a_refusal_nobody_is_asked_any_more_and_the_refused_one_is_named() -> None:
    registrations, many = Registrations(full=ASKED_AT_ONCE + 3), events(3 * ASKED_AT_ONCE)
    lowering = Lowering(registrations, 5)

    lowering.ask(many)

    assert len(registrations.asked) == 2
    assert lowering.asked == {each.id for each in many[:ASKED_AT_ONCE]}, "what is to be taken back"
    lowering.refuse(many[0])
    with pytest.raises(ConflictError, match="7 places are taken") as refused:
        lowering.refuse(many[ASKED_AT_ONCE + 2])
    assert refused.value.extensions == {"taken": 7}


def test_an_answer_is_about_the_version_that_was_asked_about() -> None:
    lowering, (first, *_) = Lowering(Registrations(), 5), events(1)
    lowering.ask([first])

    with pytest.raises(NotSettledError):
        lowering.require([first.model_copy(update={"version": 3})])


def test_what_no_answer_came_about_may_be_held_down_too() -> None:
    lowering, many = Lowering(Registrations(fails_after=1), 5), events(ASKED_AT_ONCE + 2)

    with pytest.raises(DependencyUnavailableError):
        lowering.ask(many)

    assert lowering.asked == {each.id for each in many}
