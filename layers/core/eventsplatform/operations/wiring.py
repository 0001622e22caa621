"""Health checks against every engine, each with its own short-lived use of the shared clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.adapters.breakers import probing, states
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.operations.health import CHECK_TIMEOUT_SECONDS, BreakerReport, Check, Health, UnhealthyError


def _database() -> None:
    from eventsplatform.adapters.postgres import database

    database().ping()


def _partitions() -> Callable[[], None]:
    """A check that raises UnhealthyError when rows of next month would have nowhere to go."""
    from eventsplatform.adapters.partitions import without_next_month
    from eventsplatform.adapters.postgres import Database

    # A connection of its own, for the checks run at the same time.
    database = Database(DatabaseSettings.from_environment())

    def check() -> None:
        try:
            missing = without_next_month(database)
        except DependencyUnavailableError:
            return  # which the check of the database says
        if missing is not None:
            month, schemas = missing
            raise UnhealthyError(f"no partition for {month} yet in {' and '.join(schemas)}")

    return check


def _redis() -> None:
    from eventsplatform.adapters.redis import redis_client

    redis_client().ping()


def _opensearch() -> None:
    from eventsplatform.adapters.opensearch import opensearch_client

    opensearch_client().info(request_timeout=CHECK_TIMEOUT_SECONDS)


def _kafka() -> None:
    from eventsplatform.adapters.kafka import ping_kafka

    ping_kafka(CHECK_TIMEOUT_SECONDS)


def _nats() -> None:
    from eventsplatform.adapters.nats import nats_connection

    nats_connection().ping()


def _asking(probe: Callable[[], None]) -> Callable[[], None]:
    """Whoever asks wants to know how it is now and not how it was: no breaker answers for an engine."""

    def ask() -> None:
        with probing():
            probe()

    return ask


def _breakers() -> dict[str, BreakerReport]:
    return {name: BreakerReport(state=each.state, failures=each.failures) for name, each in states().items()}


def _health() -> Health:
    return Health(
        {
            "database": Check(_asking(_database), critical=True),
            "partitions": Check(_asking(_partitions()), critical=False),
            "redis": Check(_asking(_redis), critical=False),
            "search": Check(_asking(_opensearch), critical=False),
            "kafka": Check(_asking(_kafka), critical=True),
            "nats": Check(_asking(_nats), critical=True),
        },
        _breakers,
        utc_now,
    )


FACTORIES: dict[type, Callable[[], Any]] = {Health: _health}
