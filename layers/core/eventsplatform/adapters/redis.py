"""Redis/Valkey: one client per execution environment. Its loss slows answers, it never loses data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from eventsplatform.config import RedisSettings
from eventsplatform.errors import DependencyUnavailableError

if TYPE_CHECKING:
    from redis import Redis


@cache
def redis_client() -> Redis:
    """The execution environment's client."""
    return make_client(RedisSettings.from_environment())


def make_client(settings: RedisSettings) -> Redis:
    """Answers as `str`; raises redis.RedisError, at once while its breaker is open."""
    from eventsplatform.adapters.guarded_redis import connect

    return connect(settings)


@contextmanager
def redis_required() -> Iterator[Redis]:
    """For what cannot be done without Redis (rooms): its errors become DependencyUnavailableError."""
    from redis import RedisError

    try:
        yield redis_client()
    except RedisError as error:
        raise DependencyUnavailableError("cache") from error
