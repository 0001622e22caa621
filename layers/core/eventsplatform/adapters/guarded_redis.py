"""redis-py under the policy of the table. Imported with the first client: it brings redis-py with it.

An open breaker shows as a lost connection, for which every caller has a way to go on without Redis.
"""

from __future__ import annotations

from typing import Any, cast

from redis import ConnectionError, Redis, TimeoutError
from redis.backoff import ExponentialWithJitterBackoff
from redis.client import Pipeline
from redis.retry import Retry

from eventsplatform.adapters.breakers import Breaker, breaker, count_retry
from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.config import RedisSettings


def connect(settings: RedisSettings) -> Redis:
    policy = CALL_POLICIES["redis"]
    return GuardedRedis.from_url(
        settings.url,
        decode_responses=True,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=Retry(_CountedBackOff(cap=policy.longest_wait, base=policy.longest_wait / 4), policy.attempts - 1),
        health_check_interval=30,
    )


class GuardedRedis(Redis):
    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        with _breaker():
            return super().execute_command(*arguments, **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _GuardedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _GuardedPipeline(Pipeline):
    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _breaker():
            return cast(list[Any], super().execute(raise_on_error=raise_on_error))


class _CountedBackOff(ExponentialWithJitterBackoff):
    """Asked for a wait before each retry."""

    def compute(self, failures: int) -> float:
        count_retry("redis")
        return super().compute(failures)


def _breaker() -> Breaker:
    return breaker("redis", is_outage=_is_outage, refusal=_refusal)


def _is_outage(error: BaseException) -> bool:
    return isinstance(error, (ConnectionError, TimeoutError))


def _refusal(_: Breaker) -> Exception:
    return ConnectionError("left alone for a moment after several failures")
