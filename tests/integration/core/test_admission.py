"""What the platform asks of Redis and Postgres for a request, besides what its endpoint does: counted, not timed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from eventsplatform.adapters.postgres import database
from eventsplatform.adapters.redis import redis_client
from eventsplatform.entrypoints.access import anyone, signed_in, verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ, SIGN_IN
from eventsplatform.gate.revocations import LiveRevocations, Revocations
from eventsplatform.identity.caller import Caller
from local.engines import Endpoints
from tests.support.callers import caller
from tests.support.core_environment import core_environment
from tests.support.lambda_events import Context, rest_event
from tests.support.round_trips import CountingProxy, counting_proxy

numbers = itertools.count(1)


@dataclass(frozen=True)
class Engines:
    """Redis and Postgres, each behind a proxy that counts."""

    redis: CountingProxy
    postgres: CountingProxy

    def round_trips(self, ask: Callable[[], int]) -> tuple[int, int, int]:
        """The answer's status, and what it took of Redis and of Postgres."""
        with self.redis.counting() as redis, self.postgres.counting() as postgres:
            status = ask()
        return status, redis[0], postgres[0]


@pytest.fixture
def engines_counted(endpoints: Endpoints, migrated_database: str) -> Iterator[Engines]:
    with (
        counting_proxy(str(endpoints.redis)) as (redis, redis_url),
        counting_proxy(migrated_database) as (postgres, postgres_url),
        core_environment(replace(endpoints, redis=redis_url, postgres=postgres_url)),
    ):
        # Long enough for the test; there is no identity here to ask.
        Revocations(redis_client(), copy_seconds=600.0).restore(LiveRevocations)
        yield Engines(redis, postgres)
        redis_client().delete("session:complete")


def asking(function: HttpFunction, someone: Caller | None) -> Callable[[], int]:
    def ask() -> int:
        authorizer = someone.as_context() if someone else None
        answer = function.handler(rest_event("GET", "/v1/nothing", authorizer=authorizer), Context())
        return int(answer["statusCode"])

    return ask


def nothing(function: HttpFunction) -> HttpFunction:
    @function.get("/v1/nothing", status_code=204)
    async def do_nothing() -> None:
        return None

    return function


def test_a_signed_in_request_takes_one_round_trip_to_redis_and_none_to_postgres(engines_counted: Engines) -> None:
    ask = asking(nothing(HttpFunction(access=verified("events:read"), limit=READ)), caller(next(numbers)))
    assert ask() == 204

    assert engines_counted.round_trips(ask) == (204, 1, 0)


def test_so_does_one_of_somebody_unknown(engines_counted: Engines) -> None:
    ask = asking(nothing(HttpFunction(access=anyone(), limit=SIGN_IN)), None)
    assert ask() == 204

    assert engines_counted.round_trips(ask) == (204, 1, 0)


def test_a_revoked_session_costs_no_more(engines_counted: Engines) -> None:
    someone = caller(next(numbers))
    ask = asking(nothing(HttpFunction(access=signed_in(), limit=READ)), someone)
    assert ask() == 204
    Revocations(redis_client()).end_session(someone.session_id)

    assert engines_counted.round_trips(ask) == (401, 1, 0)


def test_the_count_would_show_one_too_many(engines_counted: Engines) -> None:
    """Negative control: endpoints that ask each engine once themselves."""
    greedy = HttpFunction(access=signed_in(), limit=READ)

    @greedy.get("/v1/nothing", status_code=204)
    async def ask_both() -> None:
        redis_client().get("something")
        database().ping()

    ask = asking(greedy, caller(next(numbers)))
    assert ask() == 204

    assert engines_counted.round_trips(ask) == (204, 2, 1)
