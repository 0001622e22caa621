"""Circuit breakers: what has failed several times in a row is left alone for a while, and its callers told at once.

Waiting for an engine that does not answer keeps an execution environment, a connection and whoever asked; and the
engine, once it comes back, from coming back. Each breaker is this environment's own: a state that all share would have
to be kept somewhere, in one more engine that every call asks first, and one environment's broken connection would cut
off the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TypeVar

from aws_lambda_powertools.metrics import MetricUnit
from circuitbreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker

from eventsplatform.call_policies import CALL_POLICIES, CallPolicy
from eventsplatform.deadline import at_most
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.observability import emit_metric, logger

T = TypeVar("T")

State = Literal["closed", "half_open", "open"]
_LEVELS = {STATE_CLOSED: 0, STATE_HALF_OPEN: 1, STATE_OPEN: 2}

_breakers: dict[str, Breaker] = {}
_probing: ContextVar[bool] = ContextVar("probing", default=False)


class Breaker(CircuitBreaker):
    """`with breaker:` around a call. `is_outage` tells failures of the called from answers that are no good news.

    Whatever else is raised was answered: by an engine that works. Raises what `refusal` makes of it while it is open,
    which is DependencyUnavailableError unless the adapter's callers know another error.
    """

    def __init__(
        self,
        name: str,
        policy: CallPolicy,
        is_outage: Callable[[BaseException], bool],
        refusal: Callable[[Breaker], Exception],
    ) -> None:
        super().__init__(
            failure_threshold=policy.opens_after,
            recovery_timeout=policy.recovery,
            expected_exception=lambda _, error: is_outage(error),
            name=name,
        )
        self.policy = policy
        self._refusal = refusal

    def __enter__(self) -> None:
        if self._state != STATE_CLOSED and self.opened and not _probing.get():
            raise self._refusal(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        if kind is None and not self.failure_count:
            return False
        if isinstance(error, DependencyUnavailableError) and not error.was_called:
            return False
        failures, was_closed = self.failure_count, self._state == STATE_CLOSED
        super().__exit__(kind, error, traceback)
        if self.failure_count > failures and self._state == STATE_OPEN:
            logger.warning("a breaker is open", extra={"dependency": self.name, "failures": self.failure_count})
            emit_metric("breaker_open_total", 1, dependency=self.name)
            self._tell()
        elif self._state == STATE_CLOSED and not was_closed:
            logger.info("a breaker is closed again", extra={"dependency": self.name})
            self._tell()
        return False

    def _tell(self) -> None:
        emit_metric("breaker_state", _LEVELS[self.state], unit=MetricUnit.NoUnit, dependency=self.name)


def _unavailable(breaker: Breaker) -> Exception:
    wait = max(1, breaker.open_remaining)
    return DependencyUnavailableError(breaker.policy.called, retry_after_seconds=wait, was_called=False)


def is_unavailable(error: BaseException) -> bool:
    return isinstance(error, DependencyUnavailableError)


def breaker(
    row: str,
    which: str = "",
    *,
    is_outage: Callable[[BaseException], bool] = is_unavailable,
    refusal: Callable[[Breaker], Exception] = _unavailable,
) -> Breaker:
    """The environment's breaker for what the table's row is about, or for `which` of several."""
    name = which or row
    if name not in _breakers:
        _breakers[name] = Breaker(name, CALL_POLICIES[row], is_outage, refusal)
    return _breakers[name]


@dataclass(frozen=True)
class BreakerState:
    state: State
    failures: int


def states() -> dict[str, BreakerState]:
    """Those of this environment, by what they are for."""
    return {name: BreakerState(each.state, each.failure_count) for name, each in sorted(_breakers.items())}


def forget() -> None:
    """For tests: as in a new environment."""
    _breakers.clear()


@contextmanager
def probing() -> Iterator[None]:
    """Calls within go out although their breaker is open, and close it when they are answered."""
    token = _probing.set(True)
    try:
        yield
    finally:
        _probing.reset(token)


def repeated(row: str, call: Callable[[], T], is_passing: Callable[[BaseException], bool]) -> T:
    """What `call` returns, tried again as the row says when it fails for a reason that may pass at once.

    Not when the invocation would end before another attempt could.
    """
    policy = CALL_POLICIES[row]
    failures: list[Exception] = []
    try:
        return call()
    except Exception as error:
        if policy.attempts == 1 or not is_passing(error):
            raise
        failures.append(error)

    # Loaded where it is needed, which is seldom: it takes longer than many a call.
    from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    def attempt() -> T:
        if failures:
            raise failures.pop()  # the first attempt, which has been made
        return call()

    attempts_over = stop_after_attempt(policy.attempts)

    def is_over(state: RetryCallState) -> bool:
        return attempts_over(state) or at_most(policy.timeout) < policy.timeout

    return Retrying(
        stop=is_over,
        wait=wait_random_exponential(multiplier=policy.longest_wait / 4, max=policy.longest_wait),
        retry=retry_if_exception(is_passing),
        before_sleep=lambda _: count_retry(row),
        reraise=True,
    )(attempt)


def count_retry(row: str) -> None:
    emit_metric("retries_total", 1, dependency=row)
