"""Failed sign-ins counted in Redis: as the in-memory counts do, by any number of processes at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from eventsplatform.identity.attempts import RedisAttempts
from eventsplatform.identity.sign_in_limits import Attempt, AttemptsInMemory, AttemptsUnavailableError, BackOff, Counter
from local.engines import Endpoints
from tests.support.polling import eventually


@pytest.fixture
def redis(endpoints: Endpoints) -> Redis:
    return Redis.from_url(endpoints.redis, decode_responses=True)


def counters(*back_offs: BackOff) -> list[Counter]:
    return [Counter(f"ratelimit:test:{uuid4()}", back_off) for back_off in back_offs]


# Waits that no test outlasts, so that the two clocks need not agree.
STEPS = st.lists(st.tuples(st.sampled_from(["fail", "succeed"]), st.sets(st.integers(0, 2), min_size=1)), max_size=25)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_redis_counts_as_memory_does(redis: Redis, steps: list[tuple[str, set[int]]]) -> None:
    both = RedisAttempts(redis), AttemptsInMemory(time.monotonic)
    known = counters(*(BackOff(free, first_seconds=500, longest_seconds=800) for free in (2, 3, 4)))

    for step, chosen in steps:
        answers = []
        for attempts in both:
            attempt = attempts.begin([known[index] for index in sorted(chosen)])
            if isinstance(attempt, Attempt):
                answers.append(("let through", list(attempt.failures)))
                if step == "succeed":
                    attempts.forgive(attempt)
            else:
                answers.append(("waits", [round(attempt, -1)]))
        assert answers[0] == answers[1]


def test_of_many_attempts_at_once_no_more_pass_than_in_a_row(redis: Redis, endpoints: Endpoints) -> None:
    (counter,) = counters(BackOff(free=5, first_seconds=100))
    passed = race(endpoints, [counter], 24)

    assert passed == 5


def test_without_counting_before_the_password_is_looked_at_all_would_pass(endpoints: Endpoints) -> None:
    """The control: attempts that are counted when they have failed all find the same count."""
    (counter,) = counters(BackOff(free=5, first_seconds=100))

    assert race(endpoints, [counter], 24, check_first=True) > 5


def race(endpoints: Endpoints, known: Sequence[Counter], times: int, *, check_first: bool = False) -> int:
    """How many of so many concurrent attempts are let through."""
    passed: list[int] = []
    started = threading.Barrier(times)

    def attempt() -> None:
        client = Redis.from_url(endpoints.redis, decode_responses=True)
        client.ping()
        started.wait()
        if check_first:
            failures = int(client.hget(known[0].key, "failures") or 0)
            started.wait()
            RedisAttempts(client).begin(known)
            if failures < known[0].back_off.free:
                passed.append(1)
        elif isinstance(RedisAttempts(client).begin(known), Attempt):
            passed.append(1)

    threads = [threading.Thread(target=attempt) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(passed)


def test_a_wait_ends_by_redis_own_clock(redis: Redis) -> None:
    attempts, known = RedisAttempts(redis), counters(BackOff(free=1, first_seconds=0.05, longest_seconds=0.05))
    attempts.begin(known)

    assert isinstance(attempts.begin(known), float)
    eventually(lambda: isinstance(attempts.begin(known), Attempt), within=2, what="end of a wait of 50 ms")


def test_every_count_is_forgotten_by_itself(redis: Redis) -> None:
    known = counters(BackOff(free=5), BackOff(free=5))

    RedisAttempts(redis).begin(known)

    assert all(0 < redis.ttl(counter.key) <= 3_600 for counter in known)


def test_a_store_that_is_gone_says_so() -> None:
    gone = RedisAttempts(Redis(port=1, socket_connect_timeout=0.1))

    with pytest.raises(AttemptsUnavailableError):
        gone.begin(counters(BackOff(free=5)))
