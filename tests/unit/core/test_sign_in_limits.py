from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsplatform.errors import RateLimitedError
from eventsplatform.identity.sign_in_limits import (
    FORGOTTEN_AFTER_SECONDS,
    PER_ACCOUNT,
    PER_ACCOUNT_AND_NETWORK,
    PER_NETWORK,
    Attempt,
    AttemptsInMemory,
    AttemptsUnavailableError,
    Counter,
    SignInLimits,
    account_key,
    network_of,
)

ADA, HERE, THERE = "ada@example.org", "203.0.113.7", "198.51.100.9"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Down:
    """A store that is down, and how often it was tried."""

    def __init__(self) -> None:
        self.tried = 0

    def begin(self, counters: Sequence[Counter]) -> Attempt | float:
        self.tried += 1
        raise AttemptsUnavailableError

    def forgive(self, attempt: Attempt) -> None:
        raise AttemptsUnavailableError


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> SignInLimits:
    attempts = AttemptsInMemory(clock)
    return SignInLimits(attempts, attempts, clock)


def fail(limits: SignInLimits, times: int, email: str = ADA, address: str = HERE, *, known: bool = False) -> None:
    for _ in range(times):
        limits.begin(email, address, known=known)


def waits(limits: SignInLimits, email: str = ADA, address: str = HERE, *, known: bool = False) -> int:
    """Seconds that an attempt is told to wait."""
    with pytest.raises(RateLimitedError) as refused:
        limits.begin(email, address, known=known)
    assert refused.value.headers["Retry-After"] == str(refused.value.retry_after_seconds)
    return refused.value.retry_after_seconds


def test_five_failures_are_free_and_then_the_waits_double_up_to_a_quarter_of_an_hour(
    limits: SignInLimits, clock: Clock
) -> None:
    fail(limits, 5)

    seen = []
    for _ in range(13):
        seen.append(waits(limits, known=True))
        clock.now += seen[-1]
        limits.begin(ADA, HERE, known=True)

    assert seen == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


def test_waiting_costs_nothing_more(limits: SignInLimits, clock: Clock) -> None:
    fail(limits, 5)

    assert [waits(limits) for _ in range(20)] == [1] * 20
    clock.now += 1
    limits.begin(ADA, HERE, known=False)


def test_an_account_is_guarded_against_guesses_from_everywhere(limits: SignInLimits) -> None:
    for number in range(PER_ACCOUNT.free):
        fail(limits, 1, address=f"198.51.100.{number}")

    assert waits(limits, address="192.0.2.1") == 1


def test_the_owner_gets_in_where_they_have_signed_in_before_whatever_others_guess(limits: SignInLimits) -> None:
    for number in range(PER_ACCOUNT.free):
        fail(limits, 1, address=f"198.51.100.{number}")
    for number in range(PER_NETWORK.free):
        fail(limits, 1, f"someone-{number}@example.org")

    limits.begin(ADA, HERE, known=True)
    assert waits(limits, known=False)


def test_the_owner_waits_a_minute_at_most_where_they_have_not(limits: SignInLimits, clock: Clock) -> None:
    for number in range(40):
        clock.now += PER_ACCOUNT.longest_seconds
        fail(limits, 1, address=f"198.51.100.{number}")

    assert waits(limits, address=HERE) == 60


def test_who_tries_many_accounts_is_slowed_down_and_signing_in_to_ones_own_does_not_help(
    limits: SignInLimits,
) -> None:
    for number in range(PER_NETWORK.free):
        limits.forgive(limits.begin("mallory@example.org", HERE, known=False))
        fail(limits, 1, f"someone-{number}@example.org")

    assert waits(limits, "another@example.org") == 1


def test_a_right_password_is_forgiven(limits: SignInLimits) -> None:
    fail(limits, 4)
    limits.forgive(limits.begin(ADA, HERE, known=False))

    for _ in range(30):
        limits.forgive(limits.begin(ADA, THERE, known=False))
    fail(limits, 1)


def test_a_right_password_does_not_hand_out_new_guesses_to_others(limits: SignInLimits, clock: Clock) -> None:
    """The owner's success elsewhere leaves the account's count as it is."""
    for number in range(PER_ACCOUNT.free):
        fail(limits, 1, address=f"198.51.100.{number}")
    limits.forgive(limits.begin(ADA, HERE, known=True))

    assert waits(limits, address=THERE) == 1


def test_failures_are_forgotten_when_none_has_come_for_an_hour(limits: SignInLimits, clock: Clock) -> None:
    fail(limits, 5)
    clock.now += FORGOTTEN_AFTER_SECONDS

    fail(limits, 5)


def test_while_the_store_is_down_this_process_counts_and_asks_it_once_a_second(clock: Clock) -> None:
    down = Down()
    limits = SignInLimits(down, AttemptsInMemory(clock), clock)

    fail(limits, 5)
    assert waits(limits) == 1
    clock.now += 1
    limits.forgive(limits.begin(ADA, HERE, known=False))

    assert down.tried == 2


def test_of_the_addresses_of_one_client_none_is_a_fresh_start() -> None:
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert network_of("::ffff:203.0.113.7") == network_of("203.0.113.7") == "203.0.113.7/32"
    assert network_of("test-invoke-source-ip") == "0.0.0.0/32"
    assert account_key("ADA@Example.org") == account_key("ada@example.org")
    assert "ada" not in account_key("ada@example.org")


@given(free=st.integers(1, 20), failures=st.integers(0, 2_000))
def test_waits_only_grow_and_stay_within_their_cap(free: int, failures: int) -> None:
    back_off = type(PER_ACCOUNT_AND_NETWORK)(free=free)

    assert back_off.wait_after(failures) <= back_off.wait_after(failures + 1) <= back_off.longest_seconds
    assert (back_off.wait_after(failures) == 0) == (failures < free)
