"""What is measured runs in processes of its own, as its users run it, and ends with the benchmark."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 30


@asynccontextmanager
async def python(*arguments: str, errors: Path) -> AsyncIterator[Process]:
    """`python <arguments>` in the repository while the context is open, with pipes for its input and output.

    What it writes to standard error is in the file `errors`.
    """
    with errors.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=stderr
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()


async def seconds_to_run(*arguments: str) -> float:
    """How long `python <arguments>` takes from start to end."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=DEVNULL)
    if await process.wait() != 0:
        raise RuntimeError(f"python {' '.join(arguments)} failed")
    return loop.time() - started
