"""How many environments there are, who gets them, and what a function finds in one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from local.workers import TooManyRequestsError, Workers, WorkersStoppedError
from tests.integration.workers.conftest import Run
from tests.integration.workers.harness import (
    FUNCTIONS,
    alive,
    begun,
    call,
    error,
    function,
    functions,
    meeting,
    release,
    running,
)
from tests.support.polling import eventually_async


def test_invocations_one_after_another_share_an_environment(run: Run, workers: Workers) -> None:
    async def scenario() -> list[dict[str, int]]:
        return [await call(workers, "counter") for _ in range(5)]

    answers = run(scenario())

    assert len({answer["pid"] for answer in answers}) == 1
    assert [answer["calls"] for answer in answers] == [1, 2, 3, 4, 5]


def test_invocations_at_the_same_time_never_share_an_environment(run: Run, tmp_path: Path) -> None:
    one, other = meeting(tmp_path, "one"), meeting(tmp_path, "other")

    async def scenario() -> tuple[int, int]:
        async with running(function("waits")) as workers:
            calls = asyncio.gather(call(workers, "waits", one), call(workers, "waits", other))
            pids = await begun(one), await begun(other)  # both are running
            release(one)
            release(other)
            assert tuple(await calls) == pids
            return pids

    first, second = run(scenario())
    assert first != second


def test_every_invocation_of_many_is_counted_by_exactly_one_environment(run: Run) -> None:
    async def scenario() -> list[dict[str, int]]:
        async with running(function("counter"), maximum_environments=3) as workers:
            return await asyncio.gather(*(call(workers, "counter") for _ in range(60)))

    answers = run(scenario())

    by_pid: dict[int, list[int]] = {}
    for answer in answers:
        by_pid.setdefault(answer["pid"], []).append(answer["calls"])
    assert 1 <= len(by_pid) <= 3
    for calls in by_pid.values():
        assert sorted(calls) == list(range(1, len(calls) + 1))


def test_reserved_concurrency_refuses_at_once_and_recovers(run: Run, tmp_path: Path) -> None:
    event = meeting(tmp_path)

    async def scenario() -> int:
        async with running(function("waits", reserved_concurrency=1)) as workers:
            running_call = asyncio.create_task(call(workers, "waits", event))
            pid = await begun(event)
            with pytest.raises(TooManyRequestsError, match="Rate Exceeded"):
                await workers.invoke("waits", b"{}")
            release(event)
            assert await running_call == pid
            return await call(workers, "waits", event) - pid

    assert run(scenario()) == 0


def test_no_reserved_concurrency_means_no_invocation(run: Run) -> None:
    async def scenario() -> None:
        async with running(function("noop", reserved_concurrency=0)) as workers:
            await workers.invoke("noop", b"{}")

    with pytest.raises(TooManyRequestsError):
        run(scenario())


def test_invocations_over_the_maximum_wait_in_order_of_arrival(run: Run, tmp_path: Path) -> None:
    event = meeting(tmp_path)
    finished: list[int] = []

    async def scenario() -> None:
        async with running(function("waits"), maximum_environments=1) as workers:

            async def numbered(number: int) -> int:
                pid = await call(workers, "waits", event)
                finished.append(number)
                return pid

            calls = asyncio.gather(*(numbered(number) for number in range(10)))
            await begun(event)
            release(event)
            assert len(set(await calls)) == 1

    run(scenario())
    assert finished == list(range(10))


def test_an_idle_environment_is_retired_and_the_one_in_use_is_not(run: Run, tmp_path: Path) -> None:
    one, other = meeting(tmp_path, "one"), meeting(tmp_path, "other")

    async def scenario() -> tuple[set[int], set[int], int]:
        async with running(function("waits"), idle_seconds=0.4) as workers:
            calls = asyncio.gather(call(workers, "waits", one), call(workers, "waits", other))
            pids = {await begun(one), await begun(other)}
            release(one)
            release(other)
            await calls

            async def use_and_count() -> set[int]:
                await call(workers, "waits", one)
                return {pid for pid in pids if alive(pid)} if len([p for p in pids if alive(p)]) == 1 else set()

            left = await eventually_async(use_and_count, what="one of two environments retired")
            used = await call(workers, "waits", one)

            async def all_gone() -> bool:
                return not any(map(alive, pids))

            await eventually_async(all_gone, what="the last environment retired")
            return pids, left, used

    pids, left, used = run(scenario())
    assert left == {used}  # last used, first taken: the surplus one stayed idle
    assert used in pids


def test_warm_starts_environments_ahead_of_their_first_invocation(run: Run) -> None:
    counted: list[int] = []

    class Observer:
        def invoked(self, function: str, *, init_seconds: float | None, **_: object) -> None: ...

        def throttled(self, function: str) -> None: ...

        def scaled(self, function: str, *, environments: int, running: int) -> None:
            counted.append(environments)

    async def scenario() -> int:
        async with running(function("counter"), function("init_error"), observer=Observer()) as workers:
            await workers.warm(["counter", "init_error"])
            started = max(counted)
            await workers.warm(["counter"])
            answers = [await call(workers, "counter") for _ in range(2)]
            assert answers[0]["pid"] == answers[1]["pid"]
            return started

    assert run(scenario()) == 1
    assert max(counted) == 1


def test_a_function_sees_exactly_its_variables(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PLATFORM", "must not be seen")
    provided = {"AWS_REGION": "us-east-1", "AWS_LAMBDA_FUNCTION_NAME": "Impostor"}
    first = function(
        "environment", name="First", environment={"ONLY_FIRST": "1", "TZ": ":Europe/Vienna"}, memory_mb=256
    )
    second = function("environment", name="Second", environment={"ONLY_SECOND": "2"})

    async def scenario() -> tuple[dict[str, str], dict[str, str]]:
        async with running(first, second, environment=provided) as workers:
            return (await call(workers, "First"))["variables"], (await call(workers, "Second"))["variables"]

    of_first, of_second = run(scenario())

    varying = {"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_LOG_STREAM_NAME", "PATH", "LAMBDA_RUNTIME_DIR"}
    assert {name: value for name, value in of_first.items() if name not in varying} == {
        "ONLY_FIRST": "1",
        "TZ": ":Europe/Vienna",
        "AWS_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_NAME": "First",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/First",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "LAMBDA_TASK_ROOT": str(FUNCTIONS / "environment"),
        "LANG": "en_US.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "_HANDLER": "app.handler",
    }
    assert of_first.keys() - of_second.keys() == {"ONLY_FIRST"}
    assert of_second.keys() - of_first.keys() == {"ONLY_SECOND"}
    assert of_second["AWS_LAMBDA_FUNCTION_NAME"] == "Second"


def test_an_environment_starts_in_the_code_with_nothing_of_the_platform_in_it(run: Run, workers: Workers) -> None:
    seen = run(call(workers, "environment"))

    assert seen["directory"] == str(FUNCTIONS / "environment")
    assert seen["path"][0] == str(FUNCTIONS / "environment")
    repository = Path(__file__).parents[3]
    assert not {str(repository), str(repository / "layers" / "core")} & set(seen["path"])
    assert not [name for name in seen["modules"] if name.partition(".")[0] in {"local", "eventsplatform"}]
    assert "fastapi" in seen["modules"]  # from the fork server
    assert seen["descriptors"] == [0, 1, 2, 3]  # the last one listed them


def test_environments_do_not_draw_the_same_random_numbers(run: Run) -> None:
    one, other = function("environment", name="One"), function("environment", name="Other")

    async def scenario() -> list[float]:
        async with running(one, other) as workers:
            return [(await call(workers, name))["random"] for name in ("One", "Other")]

    first, second = run(scenario())
    assert first != second


@pytest.mark.parametrize("built", [True, False], ids=["built layer", "source layer"])
def test_first_party_code_is_found_in_a_layer_and_nowhere_else(run: Run, tmp_path: Path, built: bool) -> None:
    layer = tmp_path / "layer"
    package = (layer / "python" if built else layer) / "shared_code"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with_layer = function("imports", name="With", layers=(layer,))
    without_layer = function("imports", name="Without")

    async def scenario() -> Any:
        async with running(with_layer, without_layer) as workers:
            found = await call(workers, "With", {"module": "shared_code"})
            missing = await workers.invoke("Without", b'{"module": "shared_code"}')
            platform = await workers.invoke("With", b'{"module": "eventsplatform"}')
            return found, error(missing), error(platform)

    found, missing, platform = run(scenario())

    assert found == str(package / "__init__.py")
    assert (missing["errorType"], missing["errorMessage"]) == ("ModuleNotFoundError", "No module named 'shared_code'")
    assert (platform["errorType"], platform["errorMessage"]) == (
        "ModuleNotFoundError",
        "No module named 'eventsplatform'",
    )


def test_a_changed_template_takes_effect_and_spares_unchanged_functions(run: Run) -> None:
    before = functions(function("environment", environment={"VALUE": "old"}), function("counter"), function("noop"))
    after = functions(function("environment", environment={"VALUE": "new"}), function("counter"), function("echo"))

    async def scenario() -> None:
        async with running(*before.values()) as workers:
            old = await call(workers, "environment")
            kept = await call(workers, "counter")
            workers.update(after)
            new = await call(workers, "environment")
            assert (old["variables"]["VALUE"], new["variables"]["VALUE"]) == ("old", "new")
            assert await call(workers, "counter") == {"pid": kept["pid"], "calls": 2}
            assert (await call(workers, "echo", "here"))["event"] == "here"
            with pytest.raises(LookupError):
                await workers.invoke("noop", b"{}")

    run(scenario())


def test_stop_ends_every_process_and_tells_those_who_wait(run: Run, tmp_path: Path) -> None:
    event = meeting(tmp_path)

    async def scenario() -> int:
        waits = function("waits", timeout_seconds=60)
        async with running(waits, maximum_environments=1) as workers:
            calls = [asyncio.create_task(workers.invoke("waits", json.dumps(event).encode())) for _ in range(2)]
            pid = await begun(event)
            assert alive(pid)
            await workers.stop()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [WorkersStoppedError, WorkersStoppedError]

            async def gone() -> bool:
                return not alive(pid)

            await eventually_async(gone)
            return pid

    assert run(scenario()) != os.getpid()
