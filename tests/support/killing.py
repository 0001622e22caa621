"""Killing an engine and not going on before it is back, or freezing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from tests.support.engines import RunningEngines
from tests.support.polling import eventually


@contextmanager
def engine_killed(engines: RunningEngines, name: str) -> Iterator[None]:
    """SIGKILL on entry; on exit the engine has been brought back."""
    restarts = engines.statuses()[name].restarts
    engines.kill(name)
    yield
    eventually(lambda: engines.statuses()[name].restarts > restarts, within=60, what=f"the return of {name}")


@contextmanager
def engine_frozen(engines: RunningEngines, name: str) -> Iterator[None]:
    """SIGSTOP for all processes of an engine: it keeps its connections and answers nothing, until the end."""
    process = psutil.Process(engines.statuses()[name].pid)
    family = [process, *process.children(recursive=True)]
    for member in family:
        member.suspend()
    try:
        yield
    finally:
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.resume()
