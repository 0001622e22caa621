"""Killing an engine, and not going on before it is back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.engines import RunningEngines
from tests.support.polling import eventually


@contextmanager
def engine_killed(engines: RunningEngines, name: str) -> Iterator[None]:
    """SIGKILL on entry; on exit the engine has been brought back."""
    restarts = engines.statuses()[name].restarts
    engines.kill(name)
    yield
    eventually(lambda: engines.statuses()[name].restarts > restarts, within=60, what=f"the return of {name}")
