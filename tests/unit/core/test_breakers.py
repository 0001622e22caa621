"""When a breaker opens, what it says then, and how it closes; what is repeated, and how often."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace

import circuitbreaker
import pytest

from eventsplatform.adapters.breakers import Breaker, breaker, probing, repeated, states
from eventsplatform.call_policies import CALL_POLICIES, CallPolicy
from eventsplatform.deadline import ANSWERING_SECONDS, ending_in, require_time
from eventsplatform.errors import ConflictError, DependencyUnavailableError

POLICY = CallPolicy("cake shop", timeout=2.0, attempts=3, longest_wait=0.02, opens_after=3, recovery=5.0)


class Time:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> Time:
    stopped = Time()
    monkeypatch.setattr(circuitbreaker, "monotonic", stopped)
    return stopped


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, moment: Time) -> Breaker:
    monkeypatch.setitem(CALL_POLICIES, "shop", POLICY)  # type: ignore[arg-type]
    return breaker("shop")


def call(guarded: Breaker, raising: Exception | None = None) -> None:
    with guarded:
        if raising is not None:
            raise raising


def down() -> DependencyUnavailableError:
    return DependencyUnavailableError("cake shop")


def fail(guarded: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(DependencyUnavailableError):
            call(guarded, down())


# Opening and closing -----------------------------------------------------------------------------------------


def test_after_three_failures_in_a_row_callers_are_told_when_to_come_again(shop: Breaker, moment: Time) -> None:
    fail(shop, 2)
    call(shop)  # an answer: they were not in a row
    fail(shop, 3)
    moment.now += 1.5

    with pytest.raises(DependencyUnavailableError) as refused:
        call(shop)

    assert refused.value.headers["Retry-After"] == "4"
    assert "cake shop" in refused.value.detail
    assert states()["shop"].state == "open"


def test_after_its_recovery_time_the_next_call_decides(shop: Breaker, moment: Time) -> None:
    fail(shop, 3)

    moment.now += 5
    assert states()["shop"].state == "half_open"
    fail(shop, 1)
    assert states()["shop"].state == "open"

    moment.now += 5
    call(shop)
    assert states()["shop"].state == "closed"


@pytest.mark.parametrize("error", [ConflictError("taken"), ValueError("a bug"), KeyError("id")])
def test_what_the_called_has_answered_never_opens_it(shop: Breaker, error: Exception) -> None:
    for _ in range(10):
        fail(shop, 1)
        with pytest.raises(type(error)):
            call(shop, error)

    assert states()["shop"].state == "closed"


def test_a_call_that_there_was_no_time_for_says_nothing(shop: Breaker) -> None:
    fail(shop, 2)
    for _ in range(5):
        with ending_in(0), pytest.raises(DependencyUnavailableError), shop:
            require_time(POLICY.timeout, POLICY.called)

    assert states()["shop"].failures == 2


def test_a_probe_is_made_although_the_breaker_is_open_and_closes_it(shop: Breaker) -> None:
    fail(shop, 3)

    with probing():
        call(shop)

    assert states()["shop"].state == "closed"
    call(shop)


def test_each_of_several_called_has_a_breaker_of_its_own(shop: Breaker) -> None:
    fail(breaker("shop", "in the east"), 3)

    call(breaker("shop", "in the west"))
    assert {name: each.state for name, each in states().items()} == {
        "in the east": "open",
        "in the west": "closed",
        "shop": "closed",
    }


def test_opening_and_closing_is_told_by_metrics(
    shop: Breaker, moment: Time, emitted: Callable[[str], list[float]]
) -> None:
    fail(shop, 3)
    moment.now += 5
    fail(shop, 1)
    moment.now += 5
    call(shop)
    call(shop)

    assert emitted("breaker_open_total") == [1, 1]
    assert emitted("breaker_state") == [2, 2, 0]


# Repeating ---------------------------------------------------------------------------------------------------


class Flaky:
    """Fails so many times, and notes when it was called."""

    def __init__(self, failures: float) -> None:
        self.failures = failures
        self.calls: list[float] = []

    def __call__(self) -> str:
        self.calls.append(time.monotonic())
        if len(self.calls) <= self.failures:
            raise ConnectionError("refused")
        return "cake"


def is_connection(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)


def test_a_failure_that_may_pass_is_repeated_as_often_as_the_table_says(
    shop: Breaker, emitted: Callable[[str], list[float]]
) -> None:
    flaky = Flaky(2)

    assert repeated("shop", flaky, is_connection) == "cake"

    assert len(flaky.calls) == 3
    assert emitted("retries_total") == [1, 1]
    waits = [later - earlier for earlier, later in zip(flaky.calls, flaky.calls[1:], strict=False)]
    assert all(wait < POLICY.longest_wait + 0.5 for wait in waits)


def test_then_its_last_failure_is_raised(shop: Breaker) -> None:
    flaky = Flaky(math.inf)

    with pytest.raises(ConnectionError):
        repeated("shop", flaky, is_connection)

    assert len(flaky.calls) == POLICY.attempts


def test_a_failure_that_will_not_pass_is_not_repeated(shop: Breaker) -> None:
    flaky = Flaky(math.inf)

    with pytest.raises(ConnectionError):
        repeated("shop", flaky, lambda _: False)

    assert len(flaky.calls) == 1


def test_nothing_is_repeated_that_could_outlast_the_invocation(shop: Breaker) -> None:
    flaky = Flaky(math.inf)

    with ending_in((ANSWERING_SECONDS + POLICY.timeout - 0.1) * 1000), pytest.raises(ConnectionError):
        repeated("shop", flaky, is_connection)

    assert len(flaky.calls) == 1


def test_waits_are_random_parts_of_a_growing_time(shop: Breaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who failed together would otherwise come back together."""
    slower = replace(POLICY, attempts=6, longest_wait=8.0)
    monkeypatch.setitem(CALL_POLICIES, "shop", slower)  # type: ignore[arg-type]
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)

    for _ in range(20):
        with pytest.raises(ConnectionError):
            repeated("shop", Flaky(math.inf), is_connection)

    by_attempt = [waited[number::5] for number in range(5)]
    assert all(len(set(waits)) == 20 for waits in by_attempt)
    assert max(by_attempt[0]) <= 2.0 < max(by_attempt[4]) <= 8.0


# The table ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", CALL_POLICIES)
def test_a_row_says_how_long_its_breaker_stays_open_and_its_attempts_fit_a_request(row: str) -> None:
    policy = CALL_POLICIES[row]

    assert (policy.opens_after > 0) == (policy.recovery > 0)
    assert (policy.attempts > 1) == (policy.longest_wait > 0)
    assert policy.recovery <= 10, "what has come back should not be left alone for long"


def test_a_breaker_costs_next_to_nothing(shop: Breaker) -> None:
    """`make bench ARGS=breakers` measures it; this only notices a cost of another order."""
    calls = 2_000

    def seconds() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            call(shop)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) / calls < 20e-6


@pytest.fixture
def emitted(capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[float]]:
    """The values of a metric that were written so far."""
    lines: list[dict[str, object]] = []

    def values(name: str) -> list[float]:
        lines.extend(json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line)
        return [value for line in lines if name in line for value in line[name]]  # type: ignore[attr-defined]

    return values
