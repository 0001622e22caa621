"""An engine that stands still: its first callers wait for it, the next are told at once, until it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from eventsplatform.adapters.breakers import states
from eventsplatform.adapters.guarded_opensearch import connect as connect_opensearch
from eventsplatform.adapters.guarded_redis import connect as connect_redis
from eventsplatform.adapters.kafka import KafkaMessage, KafkaProducer
from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.adapters.postgres import Database
from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.config import DatabaseSettings, KafkaSettings, NatsSettings, RedisSettings, SearchSettings
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.operations.migrate import migrate
from local.triggers import ensure_topics
from tests.support.engines import RunningEngines, engines_running
from tests.support.killing import engine_frozen
from tests.support.polling import eventually

AT_ONCE = 0.1
TOPIC = "frozen"
ENGINES = ("postgres", "redis", "opensearch", "kafka", "nats")


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngines]:
    """Engines that these tests may freeze."""
    with engines_running(tmp_path_factory.mktemp("mortal"), only=frozenset(ENGINES)) as running:
        migrate(running.endpoints.postgres)
        ensure_topics(running.endpoints.kafka, [TOPIC])
        yield running


@dataclass(frozen=True)
class Case:
    """`call` raises what an engine's callers get when it fails. Each attempt waits for `patience` seconds at least."""

    call: Callable[[], object]
    patience: float


def case_of(engine: str, mortal: RunningEngines) -> Case:
    there = mortal.endpoints
    match engine:
        case "postgres":
            database = Database(DatabaseSettings(there.postgres, "messaging", False, connect_timeout_seconds=2))

            def ask_anew() -> None:
                database.close()  # a new connection is waited for less long than a statement
                database.ping()

            return Case(ask_anew, 1.9)
        case "redis":
            client = connect_redis(RedisSettings(there.redis))
            return Case(lambda: client.ping(), 0.25)
        case "opensearch":
            search = connect_opensearch(SearchSettings(there.opensearch, False, timeout_seconds=0.5))
            return Case(lambda: search.info(), 0.5)
        case "kafka":
            producer = KafkaProducer(KafkaSettings(there.kafka, False))

            def send() -> None:
                message = KafkaMessage(TOPIC, key="1", value=b"x", headers={})
                if producer.send([message], timeout_seconds=0.5) != [True]:
                    raise DependencyUnavailableError("message broker")

            return Case(send, 0.4)
        case "nats":
            connection = NatsConnection(NatsSettings(there.nats, ""))

            async def flush() -> None:
                await (await connection.client()).flush(5)

            return Case(lambda: connection.run(flush(), timeout_seconds=0.5), 0.4)
        case _:
            raise AssertionError(engine)


def answers(case: Case) -> bool:
    case.call()
    return True


def seconds_to_fail(call: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(Exception):  # noqa: B017, PT011 - each engine's callers know another one
        call()
    return time.monotonic() - began


@pytest.mark.parametrize("engine", ENGINES)
def test_callers_of_a_frozen_engine_are_refused_at_once_until_it_is_back(mortal: RunningEngines, engine: str) -> None:
    policy = CALL_POLICIES[engine]
    case = case_of(engine, mortal)
    eventually(lambda: answers(case), within=30, what=f"an answer of {engine}")

    with engine_frozen(mortal, engine):
        # The first callers wait …
        for _ in range(policy.opens_after):
            assert seconds_to_fail(case.call) >= case.patience
        # … and those after them do not
        assert states()[engine].state == "open"
        refused = [seconds_to_fail(case.call) for _ in range(5)]
    assert max(refused) < AT_ONCE

    eventually(lambda: answers(case), within=30, what=f"an answer of {engine}")
    assert states()[engine].state == "closed"


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_breaker_every_caller_would_wait(
    mortal: RunningEngines, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    policy = CALL_POLICIES[engine]
    monkeypatch.setitem(CALL_POLICIES, engine, replace(policy, opens_after=1_000))  # type: ignore[arg-type]
    case = case_of(engine, mortal)
    eventually(lambda: answers(case), within=30, what=f"an answer of {engine}")

    with engine_frozen(mortal, engine):
        waits = [seconds_to_fail(case.call) for _ in range(policy.opens_after + 1)]

    assert min(waits) >= case.patience
