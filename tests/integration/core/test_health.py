from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from eventsplatform.months import following_month
from eventsplatform.operations.health import Health
from eventsplatform.operations.migrate import migrate
from eventsplatform.operations.wiring import FACTORIES
from local.engines import Endpoints
from tests.support.core_environment import core_environment
from tests.support.database import administrator
from tests.support.engines import RunningEngines, engines_running
from tests.support.killing import engine_killed
from tests.support.polling import eventually

ENGINES = {"postgres": "database", "redis": "redis", "opensearch": "search", "kafka": "kafka", "nats": "nats"}
CRITICAL = {"postgres", "kafka", "nats"}


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngines]:
    """Engines that these tests may kill."""
    with engines_running(tmp_path_factory.mktemp("mortal"), only=frozenset(ENGINES)) as running:
        migrate(running.endpoints.postgres)
        yield running


def unhealthy(health: Health) -> set[str]:
    return {name for name, check in health.check().checks.items() if check.status == "unhealthy"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_engine_is_reported_and_so_is_its_return(mortal: RunningEngines, engine: str) -> None:
    with core_environment(mortal.endpoints):
        health: Health = FACTORIES[Health]()
        eventually(lambda: unhealthy(health) == set(), within=60, what="all healthy")
        before = mortal.statuses()[engine].restarts

        with engine_killed(mortal, engine):
            # It may be back before the first look: then at least everything is healthy again.
            eventually(
                lambda: unhealthy(health) == {ENGINES[engine]} or mortal.statuses()[engine].restarts > before,
                within=60,
                every=0,
                what=f"{engine} reported",
            )
        eventually(lambda: health.check().status == "healthy", within=60, what="all healthy again")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_not_there_decides_how_healthy_the_platform_is(mortal: RunningEngines, engine: str) -> None:
    there = vars(mortal.endpoints)
    nowhere = {
        "postgres": "postgresql://127.0.0.1:1/nowhere",
        "redis": "redis://127.0.0.1:1",
        "opensearch": "http://127.0.0.1:1",
        "kafka": "127.0.0.1:1",
        "nats": "nats://127.0.0.1:1",
    }
    with core_environment(Endpoints(**{**there, engine: nowhere[engine]})):
        report = FACTORIES[Health]().check()

    assert {name for name, check in report.checks.items() if check.status == "unhealthy"} == {ENGINES[engine]}
    assert report.status == ("unhealthy" if engine in CRITICAL else "degraded")
    assert "127.0.0.1" not in report.model_dump_json()


def test_a_month_that_has_no_partition_yet_is_named(mortal: RunningEngines) -> None:
    """A database of its own, whose next month is taken away, of one table after the other."""
    following = following_month(datetime.now(UTC).date().replace(day=1))
    with administrator(mortal.endpoints.postgres) as connection:
        connection.execute("CREATE DATABASE without_next_month")
    url = mortal.endpoints.postgres.rpartition("/")[0] + "/without_next_month"
    migrate(url)
    with core_environment(Endpoints(**{**vars(mortal.endpoints), "postgres": url})):
        before = FACTORIES[Health]().check()
        with administrator(url) as connection:
            connection.execute(f"DROP TABLE messaging.outbox_{following:%Y_%m}")
            without_one = FACTORIES[Health]().check()
            connection.execute(f"DROP TABLE registrations.event_registrations_{following:%Y_%m}")
            without_both = FACTORIES[Health]().check()

    assert before.checks["partitions"].status == "healthy"
    month = f"no partition for {following:%Y-%m} yet in"
    assert without_one.checks["partitions"].error == f"{month} messaging"
    assert without_both.checks["partitions"].error == f"{month} messaging and registrations"
    assert without_one.status == without_both.status == "degraded"
