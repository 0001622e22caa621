"""The time that an invocation has left: nothing is waited for longer than that.

A function that Lambda ends for its time-out answers nothing. API Gateway makes a bare 502 of it, and the caller can't
tell whether to try again; so whoever waits gives up while there is time to say so. What the waits of a path come to,
one after the other, then needs no adding up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from eventsplatform.errors import DependencyUnavailableError

# Kept back for saying what did not answer.
ANSWERING_SECONDS = 1.0

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def ending_in(remaining_ms: float) -> Iterator[None]:
    """While an invocation runs that Lambda ends after so many milliseconds."""
    token = _deadline.set(time.monotonic() + remaining_ms / 1000 - ANSWERING_SECONDS)
    try:
        yield
    finally:
        _deadline.reset(token)


def at_most(seconds: float) -> float:
    """So many seconds, or what is left when that is less; 0 when nothing is."""
    return max(0.0, min(seconds, _deadline.get() - time.monotonic()))


def require_time(seconds: float, called: str) -> None:
    """Before a call that may take so long. Raises DependencyUnavailableError when the invocation would end before."""
    if at_most(seconds) < seconds:
        raise DependencyUnavailableError(called, was_called=False)
