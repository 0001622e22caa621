"""The parent's side of the fork server: starts it, restarts it when it dies, asks it for processes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from local.workers import fork_server

SCRIPT = Path(fork_server.__file__)

# Spawn requests sent and not yet answered. Bounded so that they always fit the socket's buffer: sending a file
# descriptor is a plain system call that would otherwise block the event loop.
OUTSTANDING_SPAWNS = 8

# The server's own variables; an environment gets exactly those it is to have. The last two are for macOS, where
# system libraries otherwise refuse to run in a forked child.
SERVER_ENVIRONMENT = {
    "PATH": os.defpath,
    "LC_ALL": "C.UTF-8",
    "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
    "no_proxy": "*",
}

FIRST_RESTART_DELAY_SECONDS = 0.1
LONGEST_RESTART_DELAY_SECONDS = 5.0


class PidRegistry(Protocol):
    """Where pids of started processes are kept, so that the next start can clean up after a `kill -9`."""

    def record(self, pid: int, what: str) -> None: ...

    def forget(self, pid: int) -> None: ...


class ForkServerLostError(RuntimeError):
    """The fork server ended."""


class ForkRefusedError(RuntimeError):
    """The operating system gave no further process (limits of the user or of memory)."""


@dataclass(frozen=True)
class Exit:
    """How a process ended: its exit status (negative: the signal) and the most memory it ever held."""

    status: int
    max_rss_bytes: int | None = None


@dataclass(frozen=True)
class ForkedProcess:
    """A process forked by the fork server. `exited` resolves once, when it has ended and was reaped."""

    id: int
    pid: int
    exited: asyncio.Future[Exit]


class ForkServer:
    """The fork server process and the connection to it."""

    def __init__(
        self,
        *,
        preload: Sequence[str] = fork_server.LIBRARIES,
        pids: PidRegistry | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.pid: int | None = None
        self._preload = preload
        self._pids = pids
        self._report = report
        self._ready = asyncio.Event()
        self._ids = itertools.count()
        self._spawns = asyncio.Semaphore(OUTSTANDING_SPAWNS)
        self._spawning: dict[int, asyncio.Future[ForkedProcess]] = {}
        self._processes: dict[int, ForkedProcess] = {}
        self._control: socket.socket | None = None
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the server and return when it can fork. Raises ForkServerLostError when it ends before that."""
        self._supervisor = asyncio.create_task(self._supervise(), name="fork server")
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait((ready, self._supervisor), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._supervisor.done():
            await self._supervisor

    async def stop(self) -> None:
        """End the server and with it every process it has forked."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)

    async def spawn(
        self, *, directory: Path, path: Sequence[Path], handler: str, environment: Mapping[str, str], output: int
    ) -> ForkedProcess:
        """Fork an execution environment whose stdout and stderr are the file descriptor `output`.

        A fork server that is being restarted is waited for. Raises ForkRefusedError.
        """
        order = {
            "directory": str(directory),
            "path": [str(entry) for entry in path],
            "handler": handler,
            "environment": dict(environment),
        }
        async with self._spawns:
            while True:
                await self._ready.wait()
                id = next(self._ids)
                answer = self._spawning[id] = asyncio.get_running_loop().create_future()
                try:
                    self._send({"spawn": id, **order}, output)
                    return await answer
                except ForkServerLostError:
                    continue
                finally:
                    del self._spawning[id]

    def kill(self, process: ForkedProcess) -> None:
        """SIGKILL the process and all it has started; `process.exited` tells when it is gone."""
        if process.id in self._processes:
            with contextlib.suppress(ForkServerLostError):
                self._send({"kill": process.id})

    async def _supervise(self) -> None:
        if not await self._run():
            raise ForkServerLostError("the fork server ended before it was ready")
        delay = FIRST_RESTART_DELAY_SECONDS
        while True:
            self._report("the fork server ended and its execution environments with it; starting it again")
            try:
                was_ready = await self._run()
            except OSError as error:
                self._report(f"the fork server could not be started: {error}")
                was_ready = False
            if was_ready:
                delay = FIRST_RESTART_DELAY_SECONDS
            else:
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_RESTART_DELAY_SECONDS)

    async def _run(self) -> bool:
        """Run one server until it ends; returns whether it ever became ready."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                server = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", str(SCRIPT), str(theirs.fileno()), str(os.getpid()), *self._preload),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=SERVER_ENVIRONMENT,
                    start_new_session=True,  # out of reach of the terminal's Ctrl-C
                )
            self._control, self.pid = ours, server.pid
            if self._pids is not None:
                self._pids.record(server.pid, "fork server")
            try:
                await self._receive_messages(ours)
            finally:
                was_ready = self._ready.is_set()
                self._lose()
                ours.close()  # it kills what it has forked and ends
                await server.wait()
                if self._pids is not None:
                    self._pids.forget(server.pid)
        return was_ready

    async def _receive_messages(self, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        buffer = b""
        while True:
            try:
                data = await loop.sock_recv(control, 65_536)
            except ConnectionError:
                return
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._handle(json.loads(line))

    def _handle(self, message: dict[str, Any]) -> None:
        match message:
            case {"ready": True, "missing": missing}:
                if missing:
                    self._report(f"not preloaded for functions, because not installed: {', '.join(missing)}")
                self._ready.set()
            case {"spawned": id, "pid": pid}:
                process = ForkedProcess(id, pid, exited=asyncio.get_running_loop().create_future())
                self._processes[id] = process
                if (answer := self._awaited(id)) is not None:
                    answer.set_result(process)
                else:
                    self.kill(process)
            case {"refused": id, "reason": reason}:
                if (answer := self._awaited(id)) is not None:
                    answer.set_exception(ForkRefusedError(reason))
            case {"exited": id, "status": status, "max_rss_bytes": max_rss_bytes}:
                self._processes.pop(id).exited.set_result(Exit(status, max_rss_bytes))

    def _awaited(self, id: int) -> asyncio.Future[ForkedProcess] | None:
        """The future of a spawn request, unless whoever made it was cancelled meanwhile."""
        answer = self._spawning.get(id)
        return answer if answer is not None and not answer.done() else None

    def _send(self, message: dict[str, Any], *descriptors: int) -> None:
        if self._control is None:
            raise ForkServerLostError
        line = json.dumps(message).encode() + b"\n"
        try:
            sent = socket.send_fds(self._control, [line], descriptors) if descriptors else self._control.send(line)
        except ConnectionError as error:
            raise ForkServerLostError from error
        if sent < len(line):
            raise RuntimeError("the fork server does not read its requests")

    def _lose(self) -> None:
        self._ready.clear()
        self._control = self.pid = None
        for answer in self._spawning.values():
            if not answer.done():
                answer.set_exception(ForkServerLostError())
        processes, self._processes = self._processes, {}
        for process in processes.values():
            if sys.platform != "linux":  # there, PR_SET_PDEATHSIG has done it
                fork_server.kill_group(process.pid)
            process.exited.set_result(Exit(-signal.SIGKILL))
