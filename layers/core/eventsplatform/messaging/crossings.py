"""What is told of messages that cross the bridge, by route: each of these can be an alarm."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from datetime import datetime

from eventsplatform.messaging.envelope import Message
from eventsplatform.observability import emit_metric, emit_seconds, logger


class Crossings:
    """Counts for the length of an invocation or less, told by `emit`."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def crossed(self, route: str, moment: str) -> None:
        """A message of this time is stored on the other side."""
        self._counts["bridge_messages_total"][route] += 1
        if (seconds := _seconds_since(moment)) is not None:
            self._seconds[route].append(seconds)

    def duplicate(self, route: str, _moment: str) -> None:
        """The message was stored there already."""
        self._counts["bridge_duplicates_total"][route] += 1

    def loop(self, route: str, message: Message) -> None:
        """The message came round, and goes no further."""
        logger.error("a message came round", extra={"route": route, "via": message.via, "hops": message.hops})
        self._counts["bridge_loops_total"][route] += 1

    def emit(self) -> None:
        for name, by_route in self._counts.items():
            for route, count in by_route.items():
                emit_metric(name, count, route=route)
        for route, seconds in self._seconds.items():
            emit_seconds("bridge_latency_seconds", seconds, route=route)
        self._counts.clear()
        self._seconds.clear()


def _seconds_since(moment: str) -> float | None:
    """None for what is no time: outside systems need not tell any."""
    try:
        return round(max(0.0, time.time() - datetime.fromisoformat(moment).timestamp()), 4)
    except ValueError:
        return None
