"""Real engines for tests: started once per session, in a directory of their own, on an event loop in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.engines import NAMES, Endpoints, EngineEvent, Engines, EngineStatus


class RunningEngines:
    """Engines that run on another thread's event loop, for synchronous tests."""

    def __init__(self, engines: Engines, endpoints: Endpoints, loop: asyncio.AbstractEventLoop) -> None:
        self._engines = engines
        self._loop = loop
        self.endpoints = endpoints

    def kill(self, name: str) -> None:
        """SIGKILL an engine; it comes back on the same port."""
        asyncio.run_coroutine_threadsafe(self._engines.kill(name), self._loop).result(timeout=10)

    def statuses(self) -> Mapping[str, EngineStatus]:
        return self._engines.statuses()


@contextmanager
def engines_running(
    state: Path,
    *,
    only: frozenset[str] = NAMES,
    environment: Mapping[str, str] | None = None,
    report: Callable[[EngineEvent], None] | None = None,
    before_restart: Callable[[str], Awaitable[None]] | None = None,
) -> Iterator[RunningEngines]:
    """Start engines on entry and stop them on exit. No address is taken from the test's own environment."""
    loop = asyncio.new_event_loop()
    # A child ends with the thread that started it (PR_SET_PDEATHSIG), so this one lives until after the stop.
    thread = threading.Thread(target=loop.run_forever, name="engines", daemon=True)
    thread.start()
    try:
        engines = Engines(state, only=only, environment=environment or {}, report=report, before_restart=before_restart)
        endpoints = asyncio.run_coroutine_threadsafe(engines.start(), loop).result()
        try:
            yield RunningEngines(engines, endpoints, loop)
        finally:
            asyncio.run_coroutine_threadsafe(engines.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngines]:
    """All engines, shared by the tests of a session: use names of your own for what you create in them."""
    with engines_running(tmp_path_factory.mktemp("engines")) as running:
        yield running


@pytest.fixture(scope="session")
def endpoints(engines: RunningEngines) -> Endpoints:
    return engines.endpoints
