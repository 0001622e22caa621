"""GCRA against the plainest reference there is: a bucket that holds so many requests and leaks at a steady rate."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsplatform.gate import model
from eventsplatform.gate.model import Level, LocalLimiter, Quota, Standing, Verdict, address_scope, admit
from eventsplatform.gate.policies import EXPORT, LIMIT_CLASSES, READ, SIGN_IN, policy_for
from eventsplatform.gate.revocations import ACCESS_TOKEN_SECONDS
from eventsplatform.identity.tokens import LEEWAY, LIFETIME


class Bucket:
    """What a quota means, without any cleverness: requests in it, each leaking out in one emission interval."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.content = Fraction(0)

    def leak(self, microseconds: int) -> None:
        self.content = max(Fraction(0), self.content - Fraction(microseconds, self.quota.emission_us))

    @property
    def has_room(self) -> bool:
        return self.content + 1 <= self.quota.requests


quotas = st.builds(Quota, requests=st.integers(1, 50), seconds=st.integers(1, 60))
# Waits in microseconds, small ones among them, so that sequences run into their limits.
waits = st.lists(st.one_of(st.just(0), st.integers(0, 1_000), st.integers(0, 5_000_000)), max_size=120)


@given(st.lists(quotas, min_size=1, max_size=4), waits)
def test_a_request_is_admitted_exactly_when_every_bucket_has_room(rules: list[Quota], pauses: list[int]) -> None:
    levels = [Level(f"level {index}", f"key {index}", quota) for index, quota in enumerate(rules)]
    buckets = [Bucket(quota) for quota in rules]
    tats, now = [0.0] * len(levels), 1_700_000_000_000_000

    for pause in pauses:
        now += pause
        for bucket in buckets:
            bucket.leak(pause)
        has_room = all(bucket.has_room for bucket in buckets)

        verdict, after = admit(tats, levels, now)

        assert verdict.limited is not has_room
        if has_room:
            for bucket in buckets:
                bucket.content += 1
            assert verdict.remaining == min(int(bucket.quota.requests - bucket.content) for bucket in buckets)
        else:
            assert after == tats, "a refused request is charged to no level"
            full = buckets[verdict.level]
            assert not full.has_room
            assert verdict.seconds == pytest.approx(
                float((full.content + 1 - full.quota.requests) * full.quota.emission_us) / 1e6
            )
        tats = after


@given(quotas, st.integers(0, 3))
def test_after_the_time_it_says_there_is_room_again(quota: Quota, extra: int) -> None:
    level = Level("user", "key", quota)
    tats, now = [0.0], 1_000_000_000
    for _ in range(quota.requests + extra):
        verdict, tats = admit(tats, [level], now)
    verdict, tats = admit(tats, [level], now)
    assert verdict.limited

    too_early, _ = admit(tats, [level], now + verdict.seconds * 1e6 - 2)
    in_time, _ = admit(tats, [level], now + verdict.seconds * 1e6)

    assert too_early.limited
    assert not in_time.limited


def test_a_clock_that_was_set_back_locks_nobody_out_for_longer_than_a_window() -> None:
    quota = Quota(10, 60)

    verdict, _ = admit([1e15], [Level("user", "key", quota)], 1_000_000.0)

    assert verdict == Verdict(Standing.LIVE, True, 0, 0, quota.emission_us / 1e6)


def test_rounding_never_admits_more() -> None:
    assert Quota(7, 60).emission_us * 7 >= 60_000_000


def test_the_limiter_in_the_process_counts_as_redis_would() -> None:
    now = [100.0]
    limiter = LocalLimiter(lambda: now[0])
    levels = policy_for(EXPORT, signed_in=True).levels("192.0.2.1", 7)

    admitted = [not limiter.check(levels).limited for _ in range(12)]
    now[0] += 6.0

    assert admitted == [True] * 10 + [False] * 2
    assert not limiter.check(levels).limited
    assert limiter.check(levels).limited


def test_the_limiter_in_the_process_holds_a_bounded_number_of_keys() -> None:
    now = [0.0]
    limiter = LocalLimiter(lambda: now[0], capacity=8)
    policy = policy_for(SIGN_IN, signed_in=False)

    for host in range(200):
        now[0] += 0.01
        limiter.check(policy.levels(f"192.0.2.{host}", None)[-1:])

    assert len(limiter._tats) <= 8


@pytest.mark.parametrize(
    ("address", "scope"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::1", "::/64"),
        ("", "unknown"),
        ("203.0.113.7, 10.0.0.1", "unknown"),
        ("test-invoke-source-ip", "unknown"),
    ],
)
def test_a_client_is_limited_by_the_part_of_its_address_that_it_cannot_change(address: str, scope: str) -> None:
    assert address_scope(address) == scope


def test_the_keys_say_whose_limit_on_what_it_is() -> None:
    assert policy_for(READ, signed_in=True).keys("203.0.113.7", 42) == [
        "ratelimit:global:all:all",
        "ratelimit:address:203.0.113.7:all",
        "ratelimit:user:42:all",
        "ratelimit:user:42:read",
    ]
    assert policy_for(SIGN_IN, signed_in=False).keys("203.0.113.7", None) == [
        "ratelimit:global:all:all",
        "ratelimit:address:203.0.113.7:all",
        "ratelimit:address:203.0.113.7:sign_in",
    ]


def test_the_factor_multiplies_what_an_address_may_and_nothing_else() -> None:
    one, twenty = (policy_for(SIGN_IN, signed_in=False, address_factor=factor) for factor in (1, 20))

    assert [rule.quota.requests for rule in one.rules] == [60_000, 6_000, 120]
    assert [rule.quota.requests for rule in twenty.rules] == [60_000, 120_000, 2_400]
    assert [rule.quota.requests for rule in policy_for(SIGN_IN, signed_in=True, address_factor=20).rules] == [
        60_000,
        120_000,
        1_200,
        120,
    ]


def test_what_is_costly_or_sensitive_has_less_than_reading_has() -> None:
    by_name = {limit.name: limit for limit in LIMIT_CLASSES}

    assert len(by_name) == len(LIMIT_CLASSES)
    for name in ("search", "write", "registration", "export", "admin", "sign_in", "mail"):
        assert by_name[name].user < READ.user
        assert by_name[name].address < READ.address
    assert {limit.name for limit in LIMIT_CLASSES if limit.fallback} == {"sign_in", "mail"}


def test_policies_are_advertised_as_the_draft_has_it() -> None:
    assert policy_for(EXPORT, signed_in=True).header == (
        '"global";q=60000;w=60, "address";q=6000;w=60, "user";q=1200;w=60, "export";q=10;w=60'
    )


def test_revocations_live_as_long_as_the_longest_token() -> None:
    assert model.LEEWAY == LEEWAY
    assert (LIFETIME + LEEWAY).total_seconds() == ACCESS_TOKEN_SECONDS
