"""Closed-loop load: each client sends its next request when the one before has been answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

Operation = Callable[[], Awaitable[object]]


@dataclass
class Load:
    """What one or more runs came to: each operation's duration, and the wall time they took together, in seconds."""

    durations: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.durations) / self.elapsed

    def add(self, other: Load) -> None:
        self.durations += other.durations
        self.elapsed += other.elapsed


async def run_for(seconds: float, clients: Sequence[Operation]) -> Load:
    """Each client repeats its operation for so long; an exception ends the run and is raised."""
    load = Load()
    started = time.perf_counter()
    deadline = started + seconds

    async def repeat(operation: Operation) -> None:
        began = time.perf_counter()
        while began < deadline:
            await operation()
            ended = time.perf_counter()
            load.durations.append(ended - began)
            began = ended

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(repeat(client))
    load.elapsed = time.perf_counter() - started
    return load
