"""The gate on a real Valkey: sequences in which a revoked token could slip through, and limits under concurrency.

Each guard has its negative control: the same sequence with the guard taken out lets the token through.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventsplatform.clock import utc_now
from eventsplatform.config import RedisSettings
from eventsplatform.errors import DependencyUnavailableError, RateLimitedError, UnauthenticatedError
from eventsplatform.gate import store as gate_store
from eventsplatform.gate.model import LimitClass, Quota, Session, SessionState, Standing, StoreUnavailableError, admit
from eventsplatform.gate.policies import READ, SIGN_IN, Policy, Rule, policy_for
from eventsplatform.gate.revocations import ACCESS_TOKEN_SECONDS, LiveRevocations, Revocations
from eventsplatform.gate.service import Gate
from eventsplatform.gate.store import COMPLETE, RedisStore, connect
from eventsplatform.identity.caller import Caller
from tests.support.callers import caller
from tests.support.polling import eventually
from tests.support.round_trips import counting_proxy
from tests.support.valkey import OwnValkey, own_valkey

ADDRESS = "203.0.113.7"
NOWHERE = "redis://127.0.0.1:1/0"
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnValkey]:
    with own_valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
def client(valkey: OwnValkey) -> Iterator[redis.Redis]:
    with valkey.client() as connected:
        connected.flushall()
        yield connected


@dataclass
class Truth:
    """What Postgres has committed, and the function `check_session` on it."""

    revocations: Revocations
    committed: LiveRevocations = field(default_factory=lambda: LiveRevocations([], [], {}))
    asked: int = 0
    is_down: bool = False

    def end_session(self, session: Session, *, only_commit: bool = False) -> None:
        assert isinstance(self.committed.session_ids, list)
        self.committed.session_ids.append(session.session_id)
        if not only_commit:
            self.revocations.end_session(session.session_id)

    def check(self, session: Session) -> SessionState:
        self.asked += 1
        if self.is_down:
            raise DependencyUnavailableError("service behind this one")
        self.revocations.restore(lambda: self.committed)
        live = (
            session.session_id not in self.committed.session_ids
            and session.token_id not in self.committed.token_ids
            and session.generation >= self.committed.generations.get(session.user_id, 0)
        )
        return SessionState(live, verified=True)


@dataclass
class World:
    """Identity with its truth, and as many environments of functions as a test asks for."""

    valkey: OwnValkey
    copy_seconds: float = 10.0
    fell_open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.truth = Truth(self.revocations())

    def revocations(self, url: str | None = None, **changes: Any) -> Revocations:
        return Revocations(self.valkey.client(url), copy_seconds=self.copy_seconds, **changes)

    def environment(self, url: str | None = None) -> Gate:
        def report(limit_class: LimitClass) -> None:
            self.fell_open.append(limit_class.name)

        store = connect(RedisSettings(url or self.valkey.url))
        return Gate(store, self.truth, utc_now, time.monotonic, report, copy_seconds=self.copy_seconds)


@pytest.fixture
def world(valkey: OwnValkey, client: redis.Redis) -> World:
    return World(valkey)


@pytest.fixture
def someone() -> Caller:
    """A caller that no other test knows."""
    return caller(next(numbers))


def is_let_in(gate: Gate, session: Session) -> bool:
    try:
        gate.admit(session, ADDRESS, READ)
    except UnauthenticatedError:
        return False
    return True


# What ends a session ---------------------------------------------------------------------------


def test_identity_is_asked_once_and_then_the_copy_is_believed(world: World, someone: Caller) -> None:
    gate = world.environment()

    assert all(is_let_in(gate, someone) for _ in range(5))
    assert is_let_in(world.environment(), caller(next(numbers)))

    assert world.truth.asked == 1


def test_an_ended_session_is_refused_on_the_next_request(world: World, someone: Caller) -> None:
    gate = world.environment()
    assert is_let_in(gate, someone)

    world.truth.revocations.end_session(someone.session_id)

    assert not is_let_in(gate, someone)
    assert is_let_in(gate, replace(someone, session_id="another", token_id="of another"))
    assert world.truth.asked == 1


def test_a_token_that_was_handed_back_is_refused_by_its_own_id(world: World, someone: Caller) -> None:
    gate = world.environment()
    assert is_let_in(gate, someone)

    world.truth.revocations.end_session("of some other session", someone.token_id)

    assert not is_let_in(gate, someone)


def test_a_new_generation_refuses_every_token_of_an_earlier_one(world: World, someone: Caller) -> None:
    gate = world.environment()
    assert is_let_in(gate, someone)

    world.truth.revocations.end_user(someone.user_id, someone.generation + 1)

    assert not is_let_in(gate, someone)
    assert not is_let_in(gate, replace(someone, session_id="another", token_id="of another"))
    assert is_let_in(gate, replace(someone, generation=someone.generation + 1))


def test_generations_that_are_copied_in_the_wrong_order_never_go_back(world: World, someone: Caller) -> None:
    gate = world.environment()
    assert is_let_in(gate, someone)

    world.truth.revocations.end_user(someone.user_id, someone.generation + 2)
    world.truth.revocations.end_user(someone.user_id, someone.generation + 1)

    assert not is_let_in(gate, replace(someone, generation=someone.generation + 1))


def test_a_revocation_is_kept_as_long_as_a_token_can_live(world: World, client: redis.Redis, someone: Caller) -> None:
    world.truth.revocations.end_session(someone.session_id, someone.token_id)
    world.truth.revocations.end_user(someone.user_id, 7)

    for key in (f"session:{someone.session_id}", f"session:{someone.token_id}", f"session:user:{someone.user_id}"):
        assert ACCESS_TOKEN_SECONDS - 5 < client.ttl(key) <= ACCESS_TOKEN_SECONDS


def test_many_sessions_are_looked_up_at_once(world: World, someone: Caller) -> None:
    live = caller(next(numbers))
    assert world.truth.revocations.standings([someone, live]) == [Standing.UNKNOWN, Standing.UNKNOWN]

    world.truth.check(live)
    world.truth.revocations.end_session(someone.session_id)

    assert world.truth.revocations.standings([someone, live]) == [Standing.REVOKED, Standing.LIVE]


# Redis without its data ------------------------------------------------------------------------


def revoke_then_flush(world: World, client: redis.Redis, someone: Caller) -> Gate:
    gate = world.environment()
    assert is_let_in(gate, someone)
    world.truth.end_session(someone)
    client.flushall()
    return gate


def test_a_revoked_token_stays_refused_when_redis_is_emptied(
    world: World, client: redis.Redis, someone: Caller
) -> None:
    gate = revoke_then_flush(world, client, someone)

    assert not is_let_in(gate, someone)
    assert client.exists(f"session:{someone.session_id}"), "identity wrote the copy back"
    assert not is_let_in(world.environment(), someone)
    assert world.truth.asked == 2


def test_without_the_sentinel_it_would_be_let_through(world: World, client: redis.Redis, someone: Caller) -> None:
    """Negative control: a sentinel that outlives the data it vouches for."""
    gate = revoke_then_flush(world, client, someone)
    client.set(COMPLETE, "9" * 16)

    assert is_let_in(gate, someone)


def test_a_token_that_was_revoked_while_redis_was_down_is_refused_by_an_empty_one(
    world: World, valkey: OwnValkey, someone: Caller
) -> None:
    before = world.environment()
    assert is_let_in(before, someone)
    with valkey.killed():
        world.truth.end_session(someone, only_commit=True)
        assert not is_let_in(before, someone), "while it is down"

    assert not is_let_in(before, someone)
    assert not is_let_in(world.environment(), someone)


def test_a_restoration_that_redis_is_emptied_under_does_not_call_the_copy_complete(
    world: World, client: redis.Redis, someone: Caller
) -> None:
    def read() -> LiveRevocations:
        client.flushall()
        return LiveRevocations(["some"])

    assert not world.truth.revocations.restore(read)
    assert not client.exists(COMPLETE)


def test_the_copy_is_restored_by_one_at_a_time(world: World, client: redis.Redis) -> None:
    read: list[int] = []

    def reading() -> LiveRevocations:
        read.append(1)
        assert not world.revocations().restore(reading)
        return LiveRevocations()

    assert world.truth.revocations.restore(reading)
    assert not world.revocations().restore(reading), "it is fresh"
    assert read == [1]


def test_while_redis_hangs_identity_does_not_wait_for_it_at_each_question(
    world: World, valkey: OwnValkey, someone: Caller
) -> None:
    with valkey.hanging():
        started = time.monotonic()
        for _ in range(50):
            world.truth.check(someone)

        assert time.monotonic() - started < 5.0, "two time-outs of 0.25 s a second, where a hundred would take 25 s"


def test_thousands_of_revocations_are_copied(world: World, client: redis.Redis) -> None:
    ended = LiveRevocations([f"session {n}" for n in range(1_700)], ["token"], {n: n + 1 for n in range(1, 400)})

    assert world.truth.revocations.restore(lambda: ended)

    assert client.dbsize() == 1_700 + 1 + 399 + 1
    assert client.get("session:user:17") == "18"


# The copy grows old ----------------------------------------------------------------------------


def test_an_old_copy_is_not_believed(valkey: OwnValkey, client: redis.Redis, someone: Caller) -> None:
    world = World(valkey, copy_seconds=0.4)
    gate = world.environment()
    assert is_let_in(gate, someone)
    world.truth.end_session(someone, only_commit=True)  # and its environment dies before Redis hears of it

    eventually(lambda: not client.exists(COMPLETE), within=5)

    assert not is_let_in(gate, someone)


def test_one_request_renews_the_copy_before_it_is_old(valkey: OwnValkey, client: redis.Redis, someone: Caller) -> None:
    world = World(valkey, copy_seconds=4.0)
    gates = [world.environment() for _ in range(3)]
    assert is_let_in(gates[0], someone)
    eventually(lambda: client.pttl(COMPLETE) < 1_900, within=5)

    assert all(is_let_in(gate, someone) for gate in gates for _ in range(5))

    assert world.truth.asked == 2
    assert client.pttl(COMPLETE) > 2_000


def test_the_copy_is_no_younger_than_the_moment_before_postgres_was_read(
    valkey: OwnValkey, client: redis.Redis
) -> None:
    """What is committed while identity reads may be missing, so that time counts against the copy."""
    world = World(valkey, copy_seconds=2.0)

    def read() -> LiveRevocations:
        begun = time.monotonic()
        eventually(lambda: time.monotonic() - begun > 0.5)
        return LiveRevocations()

    assert world.truth.revocations.restore(read)

    assert 0 < client.pttl(COMPLETE) <= 1_500


# Identity can't reach Redis, others can ----------------------------------------------------------


def revoke_out_of_reach_of_redis(world: World, someone: Caller, sleep: Callable[[float], None]) -> Gate:
    """The copy was made a moment ago and stays; the revocation doesn't get there."""
    assert is_let_in(world.environment(), someone)
    world.truth.revocations = world.revocations(NOWHERE, sleep=sleep)
    world.truth.end_session(someone)
    return world.environment()


def test_a_revocation_that_redis_does_not_take_holds_when_it_is_answered(
    valkey: OwnValkey, client: redis.Redis, someone: Caller
) -> None:
    world = World(valkey, copy_seconds=0.5)

    gate = revoke_out_of_reach_of_redis(world, someone, time.sleep)

    assert not is_let_in(gate, someone)


def test_without_waiting_for_the_copy_to_expire_it_would_not_hold(
    valkey: OwnValkey, client: redis.Redis, someone: Caller
) -> None:
    """Negative control: an identity that answers at once."""
    world = World(valkey, copy_seconds=5.0)

    def no_time_at_all(_seconds: float) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        revoke_out_of_reach_of_redis(world, someone, no_time_at_all)

    assert is_let_in(world.environment(), someone)


def test_a_revocation_is_copied_as_soon_as_a_hanging_redis_goes_on(
    world: World, valkey: OwnValkey, someone: Caller
) -> None:
    assert is_let_in(world.environment(), someone)

    with ThreadPoolExecutor(1) as pool:
        with valkey.hanging():
            ending = pool.submit(world.truth.end_session, someone)
            assert not is_let_in_soon(world.environment(), someone, ending.running)
            assert not ending.done(), "it must not be acknowledged before it holds"
        ending.result(timeout=5)

    assert not is_let_in(world.environment(), someone)


def is_let_in_soon(gate: Gate, session: Session, begun: Callable[[], bool]) -> bool:
    eventually(begun)
    return is_let_in(gate, session)


# Redis down, slow, failing -----------------------------------------------------------------------


def test_while_redis_is_down_identity_is_asked_and_limits_fall_open(
    world: World, valkey: OwnValkey, someone: Caller
) -> None:
    gate = world.environment()
    assert is_let_in(gate, someone)
    with valkey.killed():
        assert all(is_let_in(gate, someone) for _ in range(3))
        assert world.truth.asked == 4
        assert world.fell_open == ["read"] * 3

    assert eventually(lambda: gate.admit(someone, ADDRESS, READ).headers, within=5), "limits are back"


def test_a_hanging_redis_costs_one_time_out_a_second(world: World, valkey: OwnValkey, someone: Caller) -> None:
    gate = world.environment()
    assert is_let_in(gate, someone)
    world.truth.check = lambda session: SessionState(live=True, verified=True)  # type: ignore[method-assign]

    with valkey.hanging():
        started = time.monotonic()
        assert all(is_let_in(gate, someone) for _ in range(200))
        taken = time.monotonic() - started

    assert world.fell_open == ["read"] * 200
    assert taken < 5.0, "one time-out of 0.25 s a second, where two hundred would take 50 s"


def test_while_redis_is_down_signing_in_is_limited_in_the_process(world: World, valkey: OwnValkey) -> None:
    gate = world.environment()
    with valkey.killed():
        for _ in range(SIGN_IN.address):
            gate.admit(None, ADDRESS, SIGN_IN)

        with pytest.raises(RateLimitedError):
            gate.admit(None, ADDRESS, SIGN_IN)


def test_nobody_gets_in_when_neither_can_tell(world: World, valkey: OwnValkey, someone: Caller) -> None:
    gate = world.environment()
    assert is_let_in(gate, someone)
    world.truth.is_down = True

    with valkey.killed():
        with pytest.raises(DependencyUnavailableError):
            gate.admit(someone, ADDRESS, READ)
        gate.admit(None, ADDRESS, READ)


def test_a_full_redis_counts_as_one_that_is_down_and_charges_nothing(
    world: World, client: redis.Redis, someone: Caller
) -> None:
    gate = world.environment()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")
    try:
        assert is_let_in(gate, someone)
    finally:
        client.config_set("maxmemory", "256mb")
        client.config_set("maxmemory-policy", "volatile-lru")

    assert world.fell_open == ["read"]
    assert client.keys("ratelimit:*") == []


def test_a_connection_that_was_closed_while_the_environment_was_frozen_is_made_anew(
    world: World, client: redis.Redis, someone: Caller
) -> None:
    gate = world.environment()
    assert is_let_in(gate, someone)

    client.client_kill_filter(_type="normal", skipme=True)

    assert gate.admit(someone, ADDRESS, READ).headers
    assert world.fell_open == []
    assert world.truth.asked == 2, "the server may be another one by now"


def test_a_redis_that_forgot_the_script_is_sent_it_again(world: World, client: redis.Redis, someone: Caller) -> None:
    gate = world.environment()
    assert is_let_in(gate, someone)

    client.script_flush()

    assert gate.admit(someone, ADDRESS, READ).headers
    assert world.fell_open == []


# One round trip ----------------------------------------------------------------------------------


def test_a_request_is_admitted_in_one_round_trip(world: World, valkey: OwnValkey, someone: Caller) -> None:
    with counting_proxy(valkey.url) as (proxy, url):
        gate = world.environment(url)
        gate.admit(someone, ADDRESS, READ)

        with proxy.counting() as counted:
            gate.admit(someone, ADDRESS, READ)
        assert counted == [1]

        with proxy.counting() as counted:
            gate.admit(None, ADDRESS, SIGN_IN)
        assert counted == [1]


def test_every_key_expires_when_it_says_nothing_any_more(valkey: OwnValkey, client: redis.Redis) -> None:
    policy = policy_of(Quota(10, 600), Quota(10, 60), Quota(10, 6))

    connect(RedisSettings(valkey.url)).check(policy, ADDRESS, caller(7))

    lifetimes = [client.pttl(key) for key in policy.keys(ADDRESS, 7)]
    assert len(client.keys("*")) == 3
    assert all(
        0 < lifetime <= rule.quota.emission_us / 1000 for lifetime, rule in zip(lifetimes, policy.rules, strict=True)
    )


# The arithmetic ----------------------------------------------------------------------------------

quotas = st.builds(Quota, requests=st.integers(1, 40), seconds=st.integers(1, 60))
waits = st.lists(st.one_of(st.just(0), st.integers(0, 1_000), st.integers(0, 3_000_000)), min_size=1, max_size=40)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rules=st.lists(quotas, min_size=1, max_size=4), pauses=waits)
def test_the_script_decides_as_the_model_does(client: redis.Redis, rules: list[Quota], pauses: list[int]) -> None:
    """The very script, on a clock of the test's, whose keys last for as long as the test."""
    script = gate_store._SCRIPT
    for real, set_by_test in (
        ("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}"),
        (", 'PX', math.ceil(ahead[i] / 1000)", ""),
    ):
        assert script.count(real) == 1
        script = script.replace(real, set_by_test)
    client.flushall()
    policy = Policy(tuple(Rule(f"level {index}", "address", str(index), quota) for index, quota in enumerate(rules)))
    levels = policy.levels("a", None)
    tats, now = [0.0] * len(levels), 1_800_000_000_000_000
    numbers = [n for quota in rules for n in (quota.emission_us, quota.window_us)]

    for pause in pauses:
        now += pause
        expected, tats = admit(tats, levels, now)

        answer = client.eval(
            script, len(levels), *policy.keys("a", None), "", 0, *numbers, now // 1_000_000, now % 1_000_000
        )

        standing, limited, level, remaining, microseconds = str(answer).split()
        assert standing == "live"
        assert (limited == "1", int(level), int(remaining)) == (expected.limited, expected.level, expected.remaining)
        assert int(microseconds) == pytest.approx(expected.seconds * 1e6, abs=1)


# Sixteen at once ---------------------------------------------------------------------------------

CLIENTS = 16


@dataclass(frozen=True)
class Client:
    user_id: int
    address: str
    admitted: int


def redis_seconds(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def hammer(
    policy: Policy, connect_store: Callable[[], Callable[[Policy, str, int], bool]], seconds: float
) -> list[Client]:
    """Sixteen clients of four users behind two addresses, each on a connection of its own, as fast as they can."""
    start = threading.Barrier(CLIENTS)

    def run(number: int) -> Client:
        is_admitted = connect_store()
        user_id, address = 1 + number % 4, f"192.0.2.{number % 2}"
        admitted = 0
        start.wait()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            admitted += is_admitted(policy, address, user_id)
        return Client(user_id, address, admitted)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(run, range(CLIENTS)))


def policy_of(global_: Quota, address: Quota, user: Quota) -> Policy:
    return Policy(
        (
            Rule("global", "global", "all", global_),
            Rule("address", "address", "all", address),
            Rule("user", "user", "all", user),
        )
    )


def admitted_by(clients: list[Client], name: str, part: str) -> dict[Any, int]:
    totals: dict[Any, int] = {}
    for each in clients:
        subject = {"global": "all", "address": each.address, "user": str(each.user_id)}[name]
        totals[f"ratelimit:{name}:{subject}:{part}"] = (
            totals.get(f"ratelimit:{name}:{subject}:{part}", 0) + each.admitted
        )
    return totals


def excess(clients: list[Client], policy: Policy, elapsed: float) -> dict[str, float]:
    """By key: how many more were admitted than its level allows in that time; at most zero when it holds."""
    return {
        key: admitted - rule.quota.requests * (1 + elapsed / rule.quota.seconds)
        for rule in policy.rules
        for key, admitted in admitted_by(clients, rule.scope, rule.endpoint).items()
    }


def all_levels_at_once(valkey: OwnValkey) -> Callable[[], Callable[[Policy, str, int], bool]]:
    def connected() -> Callable[[Policy, str, int], bool]:
        store = connect(RedisSettings(valkey.url, timeout_seconds=5.0))

        def check(policy: Policy, address: str, user_id: int) -> bool:
            return not store.check(policy, address, caller(user_id)).limited

        return check

    return connected


def read_then_write(valkey: OwnValkey) -> Callable[[], Callable[[Policy, str, int], bool]]:
    """Negative control: the same arithmetic, with the TATs read in one command and written in another."""

    def connected() -> Callable[[Policy, str, int], bool]:
        client = redis.Redis.from_url(valkey.url, decode_responses=True)

        def check(policy: Policy, address: str, user_id: int) -> bool:
            levels = policy.levels(address, user_id)
            now = redis_seconds(client) * 1e6
            verdict, tats = admit(
                [float(tat or 0) for tat in client.mget([level.key for level in levels])], levels, now
            )
            if not verdict.limited:
                client.mset({level.key: tat for level, tat in zip(levels, tats, strict=True)})
            return not verdict.limited

        return check

    return connected


def one_level_after_the_other(valkey: OwnValkey) -> Callable[[], Callable[[Policy, str, int], bool]]:
    """Negative control: each level checked and charged for itself, the widest first."""
    alone = cache(lambda rule: Policy((rule,)))

    def connected() -> Callable[[Policy, str, int], bool]:
        store = connect(RedisSettings(valkey.url, timeout_seconds=5.0))

        def check(policy: Policy, address: str, user_id: int) -> bool:
            return all(not store.check(alone(rule), address, caller(user_id)).limited for rule in policy.rules)

        return check

    return connected


@pytest.mark.parametrize(
    "quotas",
    [
        pytest.param((Quota(300, 1), Quota(4_000, 1), Quota(4_000, 1)), id="global is the tightest"),
        pytest.param((Quota(4_000, 1), Quota(150, 1), Quota(4_000, 1)), id="address is the tightest"),
        pytest.param((Quota(4_000, 1), Quota(4_000, 1), Quota(60, 1)), id="user is the tightest"),
    ],
)
def test_sixteen_clients_are_never_admitted_more_often_than_any_level_allows(
    valkey: OwnValkey, client: redis.Redis, quotas: tuple[Quota, Quota, Quota]
) -> None:
    policy = policy_of(*quotas)
    began = redis_seconds(client)

    clients = hammer(policy, all_levels_at_once(valkey), seconds=1.2)

    over = excess(clients, policy, redis_seconds(client) - began)
    assert max(over.values()) <= 0, over
    assert max(over.values()) > -0.5 * min(quota.requests for quota in quotas), "the limit was never reached"


def test_limits_that_are_read_before_they_are_written_admit_more(valkey: OwnValkey, client: redis.Redis) -> None:
    policy = policy_of(Quota(300, 1), Quota(4_000, 1), Quota(4_000, 1))
    began = redis_seconds(client)

    clients = hammer(policy, read_then_write(valkey), seconds=1.2)

    assert max(excess(clients, policy, redis_seconds(client) - began).values()) > 0


def charged(client: redis.Redis, policy: Policy, address: str, user_id: int) -> list[int]:
    """How many requests stand against each level."""
    now = redis_seconds(client) * 1e6
    tats = [float(value or 0) for value in client.mget(policy.keys(address, user_id))]
    return [round(max(0.0, tat - now) / rule.quota.emission_us) for tat, rule in zip(tats, policy.rules, strict=True)]


@pytest.mark.parametrize(
    ("limiter", "charges_refused"),
    [
        pytest.param(all_levels_at_once, False, id="all levels at once"),
        pytest.param(one_level_after_the_other, True, id="one level after the other, as a control"),
    ],
)
def test_what_one_level_refuses_is_charged_to_no_other(
    valkey: OwnValkey, client: redis.Redis, limiter: Any, charges_refused: bool
) -> None:
    """Windows of an hour: nothing worth counting leaks away while the test runs."""
    policy = policy_of(Quota(100_000, 360_000), Quota(50_000, 360_000), Quota(10, 360_000))

    clients = hammer(policy, limiter(valkey), seconds=0.5)

    assert sum(each.admitted for each in clients) == 4 * 10, "four users, ten each"
    everyone, address, user = charged(client, policy, "192.0.2.0", 1)
    assert user == 10
    assert (everyone > 40) is charges_refused
    assert (address > 20) is charges_refused
    if not charges_refused:
        assert (everyone, address) == (40, 20)


def test_a_store_says_that_it_is_not_there(valkey: OwnValkey) -> None:
    store: RedisStore = connect(RedisSettings(NOWHERE))

    with pytest.raises(StoreUnavailableError):
        store.check(policy_for(READ, signed_in=False), ADDRESS, None)
