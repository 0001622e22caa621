"""What the gate does with what Redis and identity say, and without either."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from eventsplatform.clock import utc_now
from eventsplatform.errors import DependencyUnavailableError, RateLimitedError, UnauthenticatedError
from eventsplatform.gate.model import (
    COPY_SECONDS,
    LEEWAY,
    LimitClass,
    Session,
    SessionState,
    Standing,
    StoreUnavailableError,
)
from eventsplatform.gate.model import Verdict as V
from eventsplatform.gate.policies import MAIL, READ, SIGN_IN, Policy
from eventsplatform.gate.service import RETRY_SECONDS, Gate
from tests.support.callers import caller

ADDRESS = "203.0.113.7"


class Store:
    """Says `verdict`, or fails."""

    def __init__(self) -> None:
        self.verdict: V | None = V(Standing.LIVE, level=2, remaining=1199, seconds=0.05)
        self.asked = 0
        self.has_reconnected = False

    def check(self, policy: Policy, address: str, session: Session | None) -> V:
        self.asked += 1
        if self.verdict is None:
            raise StoreUnavailableError("down")
        return self.verdict

    def reconnected(self) -> bool:
        reconnected, self.has_reconnected = self.has_reconnected, False
        return reconnected


class Sessions:
    def __init__(self) -> None:
        self.state: SessionState | None = SessionState(live=True, verified=True)
        self.asked = 0

    def check(self, session: Session) -> SessionState:
        self.asked += 1
        if self.state is None:
            raise DependencyUnavailableError("service behind this one")
        return self.state


class Bench:
    """A gate and what it stands on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.today = utc_now()
        self.store = Store()
        self.sessions = Sessions()
        self.fell_open: list[str] = []
        self.gate = Gate(self.store, self.sessions, lambda: self.today, lambda: self.now, self._report)

    def _report(self, limit_class: LimitClass) -> None:
        self.fell_open.append(limit_class.name)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_live_session_within_its_limits_gets_in_and_is_told_what_is_left(bench: Bench) -> None:
    admission = bench.gate.admit(caller(7), ADDRESS, READ)

    assert admission.headers == {
        "RateLimit-Policy": '"global";q=60000;w=60, "address";q=6000;w=60, "user";q=1200;w=60, "read";q=1200;w=60',
        "RateLimit": '"user";r=1199;t=1',
    }
    assert (bench.store.asked, bench.sessions.asked) == (1, 0)


def test_a_revoked_session_is_refused_without_asking_identity(bench: Bench) -> None:
    bench.store.verdict = V(Standing.REVOKED)

    with pytest.raises(UnauthenticatedError):
        bench.gate.admit(caller(7), ADDRESS, READ)

    assert bench.sessions.asked == 0


def test_a_token_that_has_expired_since_it_was_verified_is_refused(bench: Bench) -> None:
    someone = caller(7)
    bench.today = someone.expires_at + LEEWAY - timedelta(seconds=1)
    bench.gate.admit(someone, ADDRESS, READ)

    bench.today = someone.expires_at + LEEWAY
    with pytest.raises(UnauthenticatedError):
        bench.gate.admit(someone, ADDRESS, READ)

    assert bench.store.asked == 1


def test_a_level_without_room_says_which_and_for_how_long(bench: Bench) -> None:
    bench.store.verdict = V(Standing.LIVE, limited=True, level=2, seconds=3.2)

    with pytest.raises(RateLimitedError) as refused:
        bench.gate.admit(caller(7), ADDRESS, READ)

    problem = refused.value.as_problem(instance="/v1/events", request_id="r")
    assert problem["status"] == 429
    assert problem["detail"] == "The limit 'user' is used up; try again in 4 seconds."
    assert problem["violated-policies"] == ["user"]
    assert refused.value.headers["Retry-After"] == "4"
    assert refused.value.headers["RateLimit"] == '"user";r=0;t=4'
    assert '"user";q=1200;w=60' in refused.value.headers["RateLimit-Policy"]


@pytest.mark.parametrize("live", [True, False])
def test_a_copy_that_is_not_complete_is_not_believed(bench: Bench, live: bool) -> None:
    bench.store.verdict = V(Standing.UNKNOWN)
    bench.sessions.state = SessionState(live=live, verified=True)

    if live:
        bench.gate.admit(caller(7), ADDRESS, READ)
    else:
        with pytest.raises(UnauthenticatedError):
            bench.gate.admit(caller(7), ADDRESS, READ)

    assert bench.sessions.asked == 1


def test_nobody_signed_in_gets_through_when_neither_redis_nor_identity_can_tell(bench: Bench) -> None:
    bench.store.verdict, bench.sessions.state = None, None

    with pytest.raises(DependencyUnavailableError):
        bench.gate.admit(caller(7), ADDRESS, READ)


def test_whoever_is_not_signed_in_needs_neither(bench: Bench) -> None:
    bench.store.verdict, bench.sessions.state = None, None

    assert bench.gate.admit(None, ADDRESS, READ).headers == {}


def test_renewing_the_copy_may_fail_while_it_is_still_good(bench: Bench) -> None:
    bench.store.verdict = V(Standing.RENEW)
    bench.sessions.state = None

    bench.gate.admit(caller(7), ADDRESS, READ)

    assert bench.sessions.asked == 1


def test_what_identity_says_while_renewing_counts(bench: Bench) -> None:
    bench.store.verdict = V(Standing.RENEW)
    bench.sessions.state = SessionState(live=False, verified=True)

    with pytest.raises(UnauthenticatedError):
        bench.gate.admit(caller(7), ADDRESS, READ)


def test_a_redis_that_failed_is_left_alone_for_a_second_and_each_request_is_reported(bench: Bench) -> None:
    bench.store.verdict = None
    for _ in range(3):
        bench.gate.admit(None, ADDRESS, READ)
    assert bench.store.asked == 1
    assert bench.fell_open == ["read"] * 3

    bench.now += RETRY_SECONDS
    bench.gate.admit(None, ADDRESS, READ)

    assert bench.store.asked == 2


def _fails(bench: Bench) -> None:
    live, bench.store.verdict = bench.store.verdict, None
    bench.gate.admit(None, ADDRESS, READ)
    bench.store.verdict = live
    bench.now += RETRY_SECONDS


def _reconnects(bench: Bench) -> None:
    bench.store.has_reconnected = True
    bench.gate.admit(None, ADDRESS, READ)


@pytest.mark.parametrize("trouble", [_fails, _reconnects])
def test_after_trouble_with_redis_its_copy_is_not_believed_for_as_long_as_it_could_be_stale(
    bench: Bench, trouble: Callable[[Bench], None]
) -> None:
    """Another server may have taken over, with a sentinel and without the revocation that was written last."""
    trouble(bench)
    bench.sessions.state = SessionState(live=False, verified=True)

    with pytest.raises(UnauthenticatedError):
        bench.gate.admit(caller(7), ADDRESS, READ)
    bench.now += COPY_SECONDS

    bench.gate.admit(caller(7), ADDRESS, READ)
    assert bench.sessions.asked == 1


@pytest.mark.parametrize(("limit", "allowed"), [(SIGN_IN, 120), (MAIL, 60)])
def test_without_redis_what_guesses_passwords_or_fills_letter_boxes_is_limited_in_the_process(
    bench: Bench, limit: LimitClass, allowed: int
) -> None:
    bench.store.verdict = None
    for _ in range(allowed):
        bench.gate.admit(None, ADDRESS, limit)

    with pytest.raises(RateLimitedError) as refused:
        bench.gate.admit(None, ADDRESS, limit)

    assert refused.value.headers["RateLimit"].startswith(f'"{limit.name}";r=0')
    bench.gate.admit(None, "198.51.100.1", limit)  # another address has its own
    assert len(bench.fell_open) == allowed + 2


def test_without_redis_everything_else_falls_open(bench: Bench) -> None:
    bench.store.verdict = None

    for _ in range(READ.address + 1):
        bench.gate.admit(None, ADDRESS, READ)


def test_addresses_of_one_ipv6_network_share_their_limits(bench: Bench) -> None:
    bench.store.verdict = None
    for host in range(120):
        bench.gate.admit(None, f"2001:db8::{host:x}", SIGN_IN)

    with pytest.raises(RateLimitedError):
        bench.gate.admit(None, "2001:db8::ffff:1", SIGN_IN)


def test_a_token_from_before_the_verification_is_looked_up(bench: Bench) -> None:
    assert bench.gate.is_verified(caller(7, verified=False))

    bench.sessions.state = SessionState(live=True, verified=False)
    assert not bench.gate.is_verified(caller(7, verified=False))

    bench.sessions.state = SessionState(live=False, verified=True)
    with pytest.raises(UnauthenticatedError):
        bench.gate.is_verified(caller(7, verified=False))
