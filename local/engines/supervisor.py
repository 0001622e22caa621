"""Keeps one engine running: starts it, waits until it answers, brings it back when it dies, stops it."""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from local.engines.engine import HOST, Engine, EngineError, EngineEvent, EngineStatus, EventKind
from local.engines.launch import launch
from local.engines.pids import PidRegistry

READY_WITHIN_SECONDS = 30.0
CANCEL_EVERY_SECONDS = 0.5
STOP_WITHIN_SECONDS = 10.0
PROBE_EVERY_SECONDS = 0.05

QUICK_DEATH_SECONDS = 10.0  # an engine that answered for longer than this counts as having worked
MAXIMUM_QUICK_DEATHS = 5
FIRST_BACKOFF_SECONDS = 0.1  # doubles with each quick death

LOG_LINES_IN_ERRORS = 15


class Supervisor:
    """One engine's process and the task that watches over it."""

    def __init__(
        self,
        engine: Engine,
        *,
        log: Path,
        registry: PidRegistry,
        report: Callable[[EngineEvent], None],
        before_restart: Callable[[str], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._log = log
        self._registry = registry
        self._report_to = report
        self._before_restart = before_restart
        self._process: Process | None = None
        self._answered_at: float | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.status = EngineStatus("stopped", engine.address)

    async def start(self) -> None:
        """Return when the engine answers. Raises EngineError with the log's path and last lines."""
        self.status = replace(self.status, state="starting")
        self._report("starting")
        began = time.monotonic()
        await self._bring_up()
        self.status = replace(self.status, state="running")
        self._report("ready", seconds=time.monotonic() - began)
        self._watcher = asyncio.create_task(self._watch(), name=f"supervise {self._engine.name}")

    async def stop(self) -> None:
        """Ask the process to end, insist after a deadline, and wait until it is gone."""
        while self._watcher and not self._watcher.done():
            # More than once: a client library that probes an engine may take a cancellation for its own.
            self._watcher.cancel()
            await asyncio.wait([self._watcher], timeout=CANCEL_EVERY_SECONDS)
        if self._process:
            _send(self._process, self._engine.stop_signal)
            try:
                await asyncio.wait_for(self._process.wait(), STOP_WITHIN_SECONDS)
            except TimeoutError:
                await self._end_process()
            self._registry.forget(self._process.pid)
        self.status = replace(self.status, state="stopped", pid=None)

    def kill(self) -> None:
        """SIGKILL the process, as a crash would end it."""
        if self._process:
            _send(self._process, signal.SIGKILL)

    async def _watch(self) -> None:
        quick_deaths = 0
        cause = await self._end_of_process()
        while True:
            worked = self._answered_at and time.monotonic() - self._answered_at > QUICK_DEATH_SECONDS
            quick_deaths = 1 if worked else quick_deaths + 1
            self.status = replace(self.status, state="restarting", pid=None)
            self._report("died", detail=cause)
            if quick_deaths == MAXIMUM_QUICK_DEATHS:
                self.status = replace(self.status, state="failed")
                self._report("failed", detail=self._explain(f"died {quick_deaths} times in a row and is left alone"))
                return
            await asyncio.sleep(FIRST_BACKOFF_SECONDS * 2 ** (quick_deaths - 1))
            await self._before_restart(self._engine.name)
            cause = await self._live_again()

    async def _live_again(self) -> str:
        """Bring the engine back and return how that life ended too."""
        self._report("restarting")
        began = time.monotonic()
        try:
            await self._bring_up()
        except EngineError as error:
            return str(error)
        self.status = replace(self.status, state="running", restarts=self.status.restarts + 1)
        self._report("restarted", seconds=time.monotonic() - began)
        return await self._end_of_process()

    async def _end_of_process(self) -> str:
        assert self._process is not None
        exit_code = await self._process.wait()
        self._registry.forget(self._process.pid)
        return _describe(exit_code)

    async def _bring_up(self) -> None:
        """Launch the process and wait until it is ready for clients. When that fails, it has ended."""
        engine = self._engine
        self._answered_at = None
        try:
            await engine.prepare()
            with self._log.open("ab") as log:
                self._process = await launch(
                    engine.command(),
                    output=log,
                    death_signal=engine.death_signal,
                    hold_stdin=engine.ends_with_stdin,
                )
            self._registry.record(self._process.pid, engine.name)
            self.status = replace(self.status, pid=self._process.pid)
            await self._until_ready(self._process)
            await engine.configure()
            self._answered_at = time.monotonic()
        except Exception as error:
            await self._end_process()
            raise EngineError(self._explain(f"does not start: {error}")) from error

    async def _until_ready(self, process: Process) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while True:
            if process.returncode is not None:
                raise EngineError(f"it ended at once, {_describe(process.returncode)}")
            if await _listens(self._engine.port):
                try:
                    return await self._engine.check(self._engine.probe_address)
                except Exception as error:
                    # Each client library has exceptions of its own for "not yet".
                    if time.monotonic() > deadline:
                        raise EngineError(f"no good answer within {READY_WITHIN_SECONDS:.0f} s: {error}") from error
            elif time.monotonic() > deadline:
                raise EngineError(f"not listening on port {self._engine.port} within {READY_WITHIN_SECONDS:.0f} s")
            await asyncio.sleep(PROBE_EVERY_SECONDS)

    async def _end_process(self) -> None:
        if self._process:
            _send(self._process, signal.SIGKILL)
            await self._process.wait()

    def _explain(self, what: str) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_IN_ERRORS:]
        except FileNotFoundError:
            lines = []
        return "\n  ".join([f"{self._engine.name} {what}\nlog: {self._log}", *lines])

    def _report(self, kind: EventKind, *, seconds: float | None = None, detail: str = "") -> None:
        engine = self._engine
        self._report_to(EngineEvent(engine.name, kind, engine.address, seconds, detail, engine.keeps_data))


def _send(process: Process, signal_number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal_number)


def _describe(exit_code: int) -> str:
    return f"ended by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit status {exit_code}"


async def _listens(port: int) -> bool:
    """Whether anything accepts connections there: cheaper, and quieter, than making a client find out."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True
