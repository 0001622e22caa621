"""One event loop, and one set of workers for the tests that need nothing special."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from local.workers import Workers
from tests.integration.workers.harness import FUNCTIONS, Log, function, functions

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """Runs a coroutine in the session's event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.run


@pytest.fixture(scope="session")
def log() -> Log:
    return Log()


@pytest.fixture(scope="session")
def workers(run: Run, log: Log) -> Iterator[Workers]:
    """Every fixture function with the template's defaults: 3 s, 128 MB."""
    names = [directory.name for directory in FUNCTIONS.iterdir()]
    workers = Workers(functions(*map(function, names)), environment={"AWS_REGION": "us-east-1"}, log=log, watch=False)
    run(workers.start())
    yield workers
    run(workers.stop())
