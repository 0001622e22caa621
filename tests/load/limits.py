"""How many requests a second the gate can check: three levels and the session, in one round trip to Valkey.

One client on one connection, so that a check's whole cost counts: what Python takes to ask, the loopback, the script.
References, in turns with the gate on the same Valkey: the package `limits` doing the same three levels (its fixed
window, which is its fastest strategy, and its sliding window counter, which is the closest to GCRA), each level a
call as its API has it and none of them looking at the session; and an empty script through redis-py's client.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter
from redis import Redis

from eventsplatform.adapters.redis import make_client
from eventsplatform.clock import utc_now
from eventsplatform.config import RedisSettings
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.gate.model import LimitClass, Session, SessionState
from eventsplatform.gate.policies import GLOBAL, PER_ADDRESS, PER_USER, READ, Policy, policy_for
from eventsplatform.gate.revocations import LiveRevocations, Revocations
from eventsplatform.gate.service import Gate
from eventsplatform.gate.store import connect
from eventsplatform.identity.caller import Caller
from tests.load.report import Table, Target
from tests.load.run import Run
from tests.support.engines import engines_running

MINIMUM_TO_LIMITS = 2.2
MINIMUM_TO_EMPTY_SCRIPT = 0.75

GATE = "the gate: global, address, user, and the session"
PRODUCTION = "the gate as requests meet it: a limit class and the answer's headers besides"
FIXED_WINDOW = "limits, fixed window"
SLIDING_WINDOW = "limits, sliding window counter"
EMPTY_SCRIPT = "an empty EVALSHA"

# So many that none of them runs into a limit: a refusal would be cheaper than what is measured.
USERS = 20_000

# Whether request number n is admitted.
Check = Callable[[int], bool]


async def bench(run: Run) -> None:
    rounds, seconds = (3, 0.1) if run.quick else (9, 0.6)
    with _valkey(run.directory / "limits") as url:
        rates = await asyncio.to_thread(_measure, _checks(url), rounds, seconds)
    run.report.add(_table(rates, rounds, seconds))


@contextmanager
def _valkey(directory: Path) -> Iterator[str]:
    directory.mkdir()
    with engines_running(directory, only=frozenset({"redis"})) as running:
        address = running.endpoints.redis
        assert address is not None
        yield address


def _checks(url: str) -> Mapping[str, Check]:
    settings = RedisSettings(url)
    client = make_client(settings)
    Revocations(client, copy_seconds=3600.0).restore(LiveRevocations)
    store = connect(settings)
    gate = Gate(connect(settings), _Nobody(), utc_now, time.monotonic, _fail_if_limits_fall_open)
    three_levels = Policy(policy_for(READ, signed_in=True).rules[:3])
    callers = [_caller(number) for number in range(USERS)]
    empty = client.script_load("return 1")
    return {
        GATE: lambda number: not store.check(three_levels, _address(number), callers[number % USERS]).limited,
        PRODUCTION: lambda number: bool(gate.admit(callers[number % USERS], _address(number), READ).headers),
        FIXED_WINDOW: _hit_each_level(FixedWindowRateLimiter(_storage(client))),
        SLIDING_WINDOW: _hit_each_level(SlidingWindowCounterRateLimiter(_storage(client))),
        EMPTY_SCRIPT: lambda _number: client.evalsha(empty, 0) == 1,
    }


def _storage(client: Redis) -> RedisStorage:
    """On the very connections of `client`; the address is needed for its form alone."""
    return RedisStorage("redis://127.0.0.1", connection_pool=client.connection_pool)


def _hit_each_level(limiter: RateLimiter) -> Check:
    everyone, address, user = (RateLimitItemPerMinute(quota.requests) for quota in (GLOBAL, PER_ADDRESS, PER_USER))

    def check(number: int) -> bool:
        return (
            limiter.hit(everyone, "global")
            and limiter.hit(address, "address", _address(number))
            and limiter.hit(user, "user", str(number % USERS))
        )

    return check


def _address(number: int) -> str:
    return f"10.0.{number % 250}.{number % 200}"


def _caller(number: int) -> Caller:
    return Caller(
        user_id=number,
        email=f"user{number}@example.org",
        role="user",
        permissions=frozenset(),
        token_id=f"token-{number:016}",
        session_id=f"session-{number:028}",
        generation=1,
        verified=True,
        expires_at=utc_now() + timedelta(hours=1),
    )


class _Nobody:
    """The copy is complete, so identity is not to be asked."""

    def check(self, session: Session) -> SessionState:
        raise DependencyUnavailableError(f"identity, asked for {session.session_id}")


def _fail_if_limits_fall_open(limit_class: LimitClass) -> None:
    raise DependencyUnavailableError(f"Redis, asked for {limit_class.name}")


def _measure(checks: Mapping[str, Check], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Checks a second by round. Taking turns, so that a noisy neighbour disturbs all alike."""
    rates: dict[str, list[float]] = {name: [] for name in checks}
    numbers = itertools.count()
    for check in checks.values():  # connections and scripts
        _run(check, numbers, 0.01)
    for _ in range(rounds):
        for name, check in checks.items():
            rates[name].append(_run(check, numbers, seconds))
    return rates


def _run(check: Check, numbers: Iterator[int], seconds: float) -> float:
    done, started = 0, time.perf_counter()
    while (now := time.perf_counter()) < started + seconds:
        if not all(check(next(numbers)) for _ in range(20)):
            raise RuntimeError("a check refused what is within its limits")
        done += 20
    return done / (now - started)


def _table(rates: Mapping[str, list[float]], rounds: int, seconds: float) -> Table:
    """Ratios are medians over the rounds, each within its own round."""

    def ratio(of: str, to: str) -> float:
        return statistics.median(one / other for one, other in zip(rates[of], rates[to], strict=True))

    faster = max((FIXED_WINDOW, SLIDING_WINDOW), key=lambda name: statistics.median(rates[name]))
    return Table(
        title="Checks of a session and three levels of limits",
        columns=["check", "checks/s", f"to {faster}", "to an empty EVALSHA"],
        rows=[
            [name, statistics.median(values), ratio(name, faster), ratio(name, EMPTY_SCRIPT)]
            for name, values in rates.items()
        ],
        targets=[
            Target(f"the gate to {faster}", ratio(GATE, faster), MINIMUM_TO_LIMITS, "times", at_least=True),
            Target(
                "the gate to an empty EVALSHA",
                ratio(GATE, EMPTY_SCRIPT),
                MINIMUM_TO_EMPTY_SCRIPT,
                "times",
                at_least=True,
            ),
        ],
        notes=[f"Medians of {rounds} turns of {seconds:g} s each, one client; `limits` does not look at the session."],
    )
