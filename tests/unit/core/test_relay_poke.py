from __future__ import annotations

from typing import Any

import pytest

from eventsplatform.adapters.aws import FunctionClient
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.messaging import relay
from eventsplatform.messaging.outbox import POKE_AGAIN_SECONDS, RelayPoke


class Functions(FunctionClient):
    def __init__(self) -> None:
        self.called: list[tuple[str, dict[str, Any]]] = []
        self.failing = False

    def invoke_async(self, name: str, payload: dict[str, Any]) -> None:
        if self.failing:
            raise DependencyUnavailableError("service behind this one")
        self.called.append((name, payload))


class Wall:
    """A clock on the wall."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def functions() -> Functions:
    return Functions()


@pytest.fixture
def wall() -> Wall:
    return Wall()


def test_many_commits_wake_the_relay_once_a_second(functions: Functions, wall: Wall) -> None:
    poke = RelayPoke(functions, "RelayOutboxFunction", wall)

    for _ in range(1_000):
        poke({1})
        wall.now += 0.01

    assert functions.called == [("RelayOutboxFunction", {"poked": True})] * 10


def test_a_relay_is_awake_for_longer_than_it_is_not_poked_again() -> None:
    """What commits without a poke is seen by the relay that the last poke was for."""
    assert relay.AWAKE_SECONDS >= 2 * POKE_AGAIN_SECONDS
    assert relay.TAKE_OVER_EVERY_SECONDS <= relay.AWAKE_SECONDS - POKE_AGAIN_SECONDS


def test_a_poke_that_failed_fails_nobody_and_does_not_count(functions: Functions, wall: Wall) -> None:
    poke = RelayPoke(functions, "RelayOutboxFunction", wall)
    functions.failing = True
    poke({1})
    functions.failing = False

    poke({1})

    assert len(functions.called) == 1


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_was_set_wakes_the_relay(functions: Functions, wall: Wall, seconds: float) -> None:
    poke = RelayPoke(functions, "RelayOutboxFunction", wall)
    poke({1})
    wall.now += seconds

    poke({1})

    assert len(functions.called) == 2
