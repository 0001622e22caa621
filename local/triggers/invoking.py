"""What triggers need of the workers, and how they wait between attempts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Protocol

from local.workers import Invocation


class Invoker(Protocol):
    """Runs functions; `local.workers.Workers` is the one there is."""

    async def invoke(
        self, name: str, payload: bytes, *, trace_id: str | None = None, client_context: str | None = None
    ) -> Invocation: ...


def backoff(first: float, maximum: float) -> Iterator[float]:
    """Seconds to wait before each next attempt: doubling up to `maximum`, each between half of it and the whole.

    The spread keeps what failed together from coming back together.
    """
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - timing, not a secret
        delay = min(delay * 2, maximum)
