"""Killing an engine and not going on before it is back, or freezing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    """An engine that keeps its connections and answers nothing, until the end."""
    with frozen(psutil.Process(engines.statuses()[name].pid)):
        yield


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """SIGSTOP for a process and its descendants; from the beginning of the block on all of them stand still."""
    family = [process, *process.children(recursive=True)]
    for member in family:
        member.suspend()
    try:
        eventually(lambda: all(_stands_still(member) for member in family), every=0.001, what="everything to stop")
        yield
    finally:
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.resume()


def _stands_still(process: psutil.Process) -> bool:
    """All its threads: one that runs on another core stops a moment later than it is told."""
    stats = Path(f"/proc/{process.pid}/task").glob("*/stat")
    with suppress(FileNotFoundError, ProcessLookupError):
        return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats} <= {"T", "Z"}
    return False
