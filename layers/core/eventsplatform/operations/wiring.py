"""Health checks against every engine, each with its own short-lived use of the shared clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.clock import utc_now
from eventsplatform.operations.health import CHECK_TIMEOUT_SECONDS, Check, Health


def _database() -> None:
    from eventsplatform.adapters.postgres import database

    database().ping()


def _redis() -> None:
    from eventsplatform.adapters.redis import redis_client

    redis_client().ping()


def _opensearch() -> None:
    from eventsplatform.adapters.opensearch import opensearch_client

    opensearch_client().info(request_timeout=CHECK_TIMEOUT_SECONDS)


def _kafka() -> None:
    from eventsplatform.adapters.kafka import kafka_admin

    kafka_admin().list_topics(timeout=CHECK_TIMEOUT_SECONDS)


def _nats() -> None:
    from eventsplatform.adapters.nats import nats_connection

    nats_connection().ping()


def _health() -> Health:
    return Health(
        {
            "database": Check(_database, critical=True),
            "redis": Check(_redis, critical=False),
            "search": Check(_opensearch, critical=False),
            "kafka": Check(_kafka, critical=True),
            "nats": Check(_nats, critical=True),
        },
        utc_now,
    )


FACTORIES: dict[type, Callable[[], Any]] = {Health: _health}
