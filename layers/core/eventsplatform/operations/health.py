"""Health: whether the platform and each engine answer.

As the seed has it, losing the database, the brokers or the message bus is unhealthy; losing the cache or
the search engine is degraded, for everything else still works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from eventsplatform.clock import Clock

Status = Literal["healthy", "degraded", "unhealthy"]

CHECK_TIMEOUT_SECONDS = 2.0


class UnhealthyError(Exception):
    """What is wrong, in words that anyone may read."""


class CheckResult(BaseModel):
    status: Literal["healthy", "unhealthy"]
    error: str | None = None


class BreakerReport(BaseModel):
    """`failures` are those in a row."""

    state: Literal["closed", "half_open", "open"]
    failures: int


class HealthReport(BaseModel):
    """`breakers` are those of the execution environment that answers; others tell of theirs by metrics."""

    service: str
    status: Status
    timestamp: datetime
    checks: dict[str, CheckResult]
    breakers: dict[str, BreakerReport]


@dataclass(frozen=True)
class Check:
    """`probe` raises when the engine does not answer. A critical one makes the whole platform unhealthy."""

    probe: Callable[[], None]
    critical: bool


class Health:
    def __init__(
        self, checks: Mapping[str, Check], breakers: Callable[[], Mapping[str, BreakerReport]], clock: Clock
    ) -> None:
        self._checks = checks
        self._breakers = breakers
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_workers=max(1, len(checks)), thread_name_prefix="health")

    def check(self) -> HealthReport:
        """All engines at once; those that take longer than two seconds count as unhealthy."""
        futures = {name: self._threads.submit(check.probe) for name, check in self._checks.items()}
        wait(futures.values(), CHECK_TIMEOUT_SECONDS)
        results = {name: _result(future) for name, future in futures.items()}
        failed = [self._checks[name] for name, result in results.items() if result.status == "unhealthy"]
        status: Status = "healthy"
        if failed:
            status = "unhealthy" if any(check.critical for check in failed) else "degraded"
        return HealthReport(
            service="events-platform",
            status=status,
            timestamp=self._clock(),
            checks=results,
            breakers=dict(self._breakers()),
        )


def _result(future: Future[None]) -> CheckResult:
    if not future.done():
        future.cancel()
        return CheckResult(status="unhealthy", error=f"no answer within {CHECK_TIMEOUT_SECONDS:g} s")
    error = future.exception()
    if isinstance(error, UnhealthyError):
        return CheckResult(status="unhealthy", error=str(error))
    if error is not None:
        # The kind of failure, not its text: that may name hosts.
        return CheckResult(status="unhealthy", error=type(error).__name__)
    return CheckResult(status="healthy")
