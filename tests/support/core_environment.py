"""The environment of the core's adapters: they read it once per process, so tests have to make them forget it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from eventsplatform import config
from eventsplatform.adapters import breakers, kafka, nats, opensearch, postgres, redis
from eventsplatform.entrypoints import kafka as kafka_entrypoint
from eventsplatform.entrypoints import providers
from local.engines import Endpoints

_ONCE_PER_PROCESS = (
    config.DatabaseSettings.from_environment,
    config.RedisSettings.from_environment,
    config.SearchSettings.from_environment,
    config.KafkaSettings.from_environment,
    config.NatsSettings.from_environment,
    config.GateSettings.from_environment,
    postgres.database,
    redis.redis_client,
    opensearch.opensearch_client,
    kafka.kafka_producer,
    kafka.dead_letter_producer,
    kafka.kafka_admin,
    nats.nats_connection,
    kafka_entrypoint._consumer_group,
    kafka_entrypoint._group_dead_letters,
    providers._built,
)


@contextmanager
def core_environment(endpoints: Endpoints, *, role: str = "messaging") -> Iterator[None]:
    """Let the adapters use these engines, as a function of the service `role` does."""
    variables = {
        "DATABASE_URL": endpoints.postgres,
        "DATABASE_ROLE": role,
        "REDIS_URL": endpoints.redis,
        "OPENSEARCH_URL": endpoints.opensearch,
        "KAFKA_BOOTSTRAP_SERVERS": endpoints.kafka,
        "NATS_URL": endpoints.nats,
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update({name: value for name, value in variables.items() if value})
    _forget()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _forget()


def _forget() -> None:
    if nats.nats_connection.cache_info().currsize:
        connection = nats.nats_connection()
        connection.run(connection._close(), timeout_seconds=5)
    breakers.forget()
    for cached in _ONCE_PER_PROCESS:
        cached.cache_clear()  # type: ignore[attr-defined]
