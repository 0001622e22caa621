"""Workers over the functions of `tests/fixtures/functions`, and what the tests ask of them."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from local.application import Function
from local.workers import Invocation, Workers
from tests.support.polling import eventually_async

FUNCTIONS = Path(__file__).parents[2] / "fixtures" / "functions"


def function(fixture: str, **settings: Any) -> Function:
    """The function in this fixture directory, under the same name unless the settings say otherwise."""
    return Function(**{"name": fixture, "handler": "app.handler", "code": FUNCTIONS / fixture, **settings})


def functions(*definitions: Function) -> dict[str, Function]:
    return {definition.name: definition for definition in definitions}


class Log:
    """Keeps the lines, as the `log` of workers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, name: str, line: bytes) -> None:
        self.lines.append(f"{name}: {line.decode()}")


@asynccontextmanager
async def running(*definitions: Function, **options: Any) -> AsyncIterator[Workers]:
    """Started workers; unless asked for, code is not watched and no library preloaded (which takes a second)."""
    workers = Workers(functions(*definitions), **{"watch": False, "preload": (), **options})
    await workers.start()
    try:
        yield workers
    finally:
        await workers.stop()


async def call(workers: Workers, name: str, event: Any = None, **options: Any) -> Any:
    """The decoded response of an invocation that must succeed."""
    invocation = await workers.invoke(name, json.dumps(event).encode(), **options)
    assert invocation.ok, invocation
    return json.loads(invocation.payload)


def error(invocation: Invocation) -> Any:
    """The decoded error document of an invocation that must have failed."""
    assert invocation.function_error == "Unhandled", invocation
    return json.loads(invocation.payload)


def alive(pid: int) -> bool:
    """Whether the process exists and is more than a zombie nobody has reaped yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def meeting(directory: Path, name: str = "meeting") -> Mapping[str, str]:
    """An event for the function `waits`: it writes its pid to `begun` and ends when `release` exists."""
    return {"begun": str(directory / f"{name}.begun"), "release": str(directory / f"{name}.release")}


def release(event: Mapping[str, str]) -> None:
    Path(event["release"]).touch()


async def begun(event: Mapping[str, str]) -> int:
    """Wait until the function `waits` is running this event; returns the pid it is running in."""

    async def pid() -> str:
        return Path(event["begun"]).read_text()

    return int(await eventually_async(pid, what=f"{event['begun']} written"))
