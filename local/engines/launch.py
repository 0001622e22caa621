"""Starting programs as children that end with the platform."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from pathlib import Path
from typing import IO

from local.engines.engine import Command, EngineError

LAUNCHER = Path(__file__).with_name("launcher.py")

# What programs get of the platform's own environment. Engines read settings from theirs (PGPORT, CLUSTER_ID, …), and
# the commands are meant to be complete.
INHERITED = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


async def launch(
    command: Command, *, output: IO[bytes] | int, death_signal: signal.Signals, hold_stdin: bool = False
) -> Process:
    """Start `command` in a session of its own, so that Ctrl-C at the terminal reaches the platform alone.

    With `hold_stdin` the child has a pipe as standard input that stays open as long as the returned process is
    referenced. The child ends when the calling *thread* does: PR_SET_PDEATHSIG watches the thread (prctl(2)).
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(LAUNCHER),
        str(int(death_signal)),
        str(os.getpid()),
        command.user or "-",
        *command.arguments,
        stdin=PIPE if hold_stdin else DEVNULL,
        stdout=output,
        stderr=STDOUT,
        env={name: os.environ[name] for name in INHERITED if name in os.environ}
        | {"LC_ALL": "C", "TZ": "UTC"}
        | dict(command.environment),
        start_new_session=True,
    )


async def run(command: Command) -> None:
    """Run `command` to its end. Raises EngineError with its output when it fails."""
    process = await launch(command, output=PIPE, death_signal=signal.SIGKILL)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        program = Path(command.arguments[0]).name
        raise EngineError(f"{program} failed with status {process.returncode}:\n{output.decode(errors='replace')}")
