"""When a request that finds every environment busy gets another one started."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from local.workers import pool
from tests.integration.workers.conftest import Run
from tests.integration.workers.harness import begun, call, function, meeting, release, running


def test_a_busy_environment_that_comes_free_in_time_takes_the_next_request(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 60.0)
    one, other = meeting(tmp_path, "one"), meeting(tmp_path, "other")

    async def scenario() -> tuple[int, int]:
        async with running(function("waits")) as workers:
            first = asyncio.create_task(call(workers, "waits", one))
            await begun(one)
            second = asyncio.create_task(call(workers, "waits", other))
            await asyncio.sleep(0)  # the second is submitted
            release(one)
            release(other)
            return await first, await second

    first, second = run(scenario())
    assert first == second


def test_a_request_that_has_waited_long_enough_gets_an_environment_of_its_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0.05)
    one, other = meeting(tmp_path, "one"), meeting(tmp_path, "other")

    async def scenario() -> tuple[int, int]:
        async with running(function("waits")) as workers:
            calls = asyncio.gather(call(workers, "waits", one), call(workers, "waits", other))
            pids = await begun(one), await begun(other)  # though nothing was released
            release(one)
            release(other)
            await calls
            return pids

    first, second = run(scenario())
    assert first != second
