"""A development server runs what is on disk."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from local.application import Function
from tests.integration.workers.conftest import Run
from tests.integration.workers.harness import begun, call, function, functions, meeting, release, running
from tests.support.polling import eventually_async

WAITS_THEN_SAYS = """
import time
from pathlib import Path
SAYS = {word!r}

def handler(event, context):
    if event:
        Path(event["begun"]).write_text("1")
        while not Path(event["release"]).exists():
            time.sleep(0.005)
    return SAYS
"""


def write(directory: Path, word: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "app.py").write_text(WAITS_THEN_SAYS.format(word=word))


def test_changed_code_is_picked_up_and_what_is_running_finishes_on_the_old(run: Run, tmp_path: Path) -> None:
    code, event = tmp_path / "code", meeting(tmp_path)
    write(code, "old")
    reports: list[str] = []

    async def scenario() -> str:
        async with running(function("f", code=code), watch=True, report=reports.append) as workers:
            in_flight = asyncio.create_task(call(workers, "f", event))
            await begun(event)
            write(code, "new")  # the same size in the same second: bytecode alone would not tell

            async def noticed() -> bool:
                return bool(reports)

            await eventually_async(noticed, what="change noticed")
            assert await call(workers, "f") == "new"
            release(event)
            assert await in_flight == "old"
            return await call(workers, "f")

    assert run(scenario()) == "new"
    assert set(reports) == {"code changed: f"}


def test_a_changed_layer_replaces_the_environments_of_the_functions_that_have_it(run: Run, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "shared_code.py").write_text("")
    having = function("counter", name="Having", layers=(layer,))
    other = function("counter", name="Other")

    async def scenario() -> None:
        async with running(having, other, watch=True) as workers:
            pids = {name: (await call(workers, name))["pid"] for name in ("Having", "Other")}
            (layer / "shared_code.py").write_text("changed = True")

            async def replaced() -> bool:
                return (await call(workers, "Having"))["pid"] != pids["Having"]

            await eventually_async(replaced, what="environment with the changed layer replaced")
            assert (await call(workers, "Other"))["pid"] == pids["Other"]

    run(scenario())


def test_a_function_that_a_changed_template_adds_is_watched_as_well(run: Run, tmp_path: Path) -> None:
    code = tmp_path / "code"
    write(code, "old")

    async def scenario() -> None:
        async with running(function("noop"), watch=True) as workers:
            workers.update(functions(function("added", code=code)))
            assert await call(workers, "added") == "old"
            write(code, "new")

            async def says_new() -> bool:
                return await call(workers, "added") == "new"

            await eventually_async(says_new, what="new code")

    run(scenario())


def test_a_directory_that_was_replaced_is_still_watched(run: Run, tmp_path: Path) -> None:
    code, elsewhere = tmp_path / "code", tmp_path / "elsewhere"
    write(code, "old")
    write(elsewhere, "new")

    async def scenario() -> None:
        async with running(Function(name="f", handler="app.handler", code=code), watch=True) as workers:
            assert await call(workers, "f") == "old"
            shutil.rmtree(code)
            elsewhere.rename(code)

            async def says(word: str) -> bool:
                return await call(workers, "f") == word

            await eventually_async(lambda: says("new"), what="the code of the directory now of this name")
            write(code, "newer")
            await eventually_async(lambda: says("newer"), what="a change in it")

    run(scenario())
