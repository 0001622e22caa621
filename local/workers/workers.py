"""`Workers`: Lambda on one machine, for the functions of a template."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from local.application import Function
from local.workers.environment import EnvironmentListener, ExecutionEnvironment, Log, Request
from local.workers.fork_client import ForkServer, PidRegistry
from local.workers.fork_server import LIBRARIES
from local.workers.invocation import MAXIMUM_REQUEST_BYTES, FunctionNotFoundError, Invocation, PayloadTooLargeError
from local.workers.pool import Pool, PoolObserver
from local.workers.reload import CodeWatcher

# "The Init phase is limited to 10 seconds. If all three tasks do not complete within 10 seconds, Lambda retries the
# Init phase at the time of the first function invocation with the configured function timeout."
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
INIT_SECONDS = 10.0


class Workers:
    """Runs invocations, each in an execution environment that has it alone.

    environment: the variables that Lambda provides on top of the template's (region, credentials, endpoint).
    log(function, line): gets every line an environment writes and Lambda's own, without the line break.
    maximum_environments: at most so many per function; further invocations wait in order of arrival.
    idle_seconds: an environment unused for so long is retired.
    init_seconds: an initialisation that takes longer is repeated within the invocation, on the function's timeout.
    preload: the modules every environment starts with, already imported.
    report(sentence): what a developer should know (code reloaded, fork server restarted).
    pids: where the fork server's pid is recorded while it runs; all other processes end with it.
    observer: counts invocations, throttles and environments.
    watch: replace environments when the function's code or a layer of it changes.

    The memory size is told to functions but not enforced.
    """

    def __init__(
        self,
        functions: Mapping[str, Function],
        *,
        environment: Mapping[str, str] | None = None,
        log: Log = lambda _function, _line: None,
        maximum_environments: int = 8,
        idle_seconds: float = 300,
        init_seconds: float = INIT_SECONDS,
        preload: Sequence[str] = LIBRARIES,
        report: Callable[[str], None] = lambda _: None,
        pids: PidRegistry | None = None,
        observer: PoolObserver | None = None,
        watch: bool = True,
    ) -> None:
        self._functions = dict(functions)
        self._environment = dict(environment or {})
        self._log = log
        self._maximum_environments = maximum_environments
        self._idle_seconds = idle_seconds
        self._init_seconds = init_seconds
        self._report = report
        self._observer = observer
        self._pools: dict[str, Pool] = {}
        self._removed: list[Pool] = []  # of functions no longer in the template
        self._fork_server = ForkServer(preload=preload, pids=pids, report=report)
        self._watcher = CodeWatcher(self._code_changed, report) if watch else None

    async def start(self) -> None:
        """Start the fork server (about a second: it loads the libraries) and watch the code."""
        await self._fork_server.start()
        self._watch()
        await asyncio.sleep(0)  # the watcher's turn

    async def stop(self) -> None:
        """End every environment. Callers still waiting get WorkersStoppedError."""
        if self._watcher is not None:
            await self._watcher.stop()
        for pool in (*self._pools.values(), *self._removed):
            pool.close()
        self._pools.clear()
        await self._fork_server.stop()

    async def invoke(
        self, name: str, payload: bytes, *, trace_id: str | None = None, client_context: str | None = None
    ) -> Invocation:
        """Invoke a function with a JSON event and wait for the outcome, as `RequestResponse` invocations do.

        `trace_id` is the value of an `X-Amzn-Trace-Id` header, `client_context` a JSON document. An invocation that
        has begun runs to its end even when the caller is cancelled. Errors of the function are in the outcome;
        raised are FunctionNotFoundError, PayloadTooLargeError, TooManyRequestsError and WorkersStoppedError.
        """
        pool = self._pool(name)
        if len(payload) > MAXIMUM_REQUEST_BYTES:
            raise PayloadTooLargeError(
                f"Request must be smaller than {MAXIMUM_REQUEST_BYTES} bytes for the InvokeFunction operation"
            )
        for header in (trace_id, client_context):
            if header is not None and not header.isprintable():
                raise ValueError("a trace id and a client context must be printable, on one line")
        loop = asyncio.get_running_loop()
        request = Request(
            payload=payload or b"{}",
            trace_id=trace_id or _new_trace_id(),
            client_context=client_context,
            answer=loop.create_future(),
            submitted_at=loop.time(),
        )
        pool.submit(request)
        return await request.answer

    async def warm(self, names: Iterable[str]) -> None:
        """Start an environment for each of these functions that has none, a few at a time."""
        places = asyncio.Semaphore(os.cpu_count() or 1)

        async def warm_one(name: str) -> None:
            async with places:
                await self._pool(name).warm()

        await asyncio.gather(*(warm_one(name) for name in names))

    async def kill(self, names: Iterable[str]) -> None:
        """End what is running of these functions, as a crash would, and wait until it is gone."""
        await asyncio.gather(*(self._pools[name].kill() for name in names if name in self._pools))

    def update(self, functions: Mapping[str, Function]) -> None:
        """Take over a changed template; call it from the event loop.

        Environments of functions that have changed or are gone finish what they are running.
        """
        previous, self._functions = self._functions, dict(functions)
        for name, pool in tuple(self._pools.items()):
            if name not in functions:
                del self._pools[name]
                self._removed.append(pool)
                pool.retire()
            elif functions[name] != previous[name]:
                pool.retire(functions[name])
        self._watch()

    def _pool(self, name: str) -> Pool:
        pool = self._pools.get(name)
        if pool is None:
            if name not in self._functions:
                raise FunctionNotFoundError(f"Function not found: {name}")
            pool = self._pools[name] = Pool(
                self._functions[name],
                launch=self._launch,
                observer=self._observer,
                maximum_environments=self._maximum_environments,
                idle_seconds=self._idle_seconds,
                init_seconds=self._init_seconds,
            )
        return pool

    def _launch(self, function: Function, listener: EnvironmentListener) -> ExecutionEnvironment:
        return ExecutionEnvironment(
            function,
            provided=self._environment,
            fork_server=self._fork_server,
            log=self._log,
            listener=listener,
        )

    def _watch(self) -> None:
        if self._watcher is not None:
            functions = self._functions.values()
            self._watcher.watch({directory for f in functions for directory in (f.code, *f.layers)})

    def _code_changed(self, directories: set[Path]) -> None:
        changed = [f.name for f in self._functions.values() if not directories.isdisjoint((f.code, *f.layers))]
        for name in changed:
            if name in self._pools:
                self._pools[name].retire()
        named = ", ".join(sorted(changed)) if len(changed) <= 3 else f"{len(changed)} functions"
        self._report(f"code changed: {named}")


def _new_trace_id() -> str:
    """An X-Ray trace id of its own for the invocation, not sampled: there is no daemon to send segments to."""
    return f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Parent={os.urandom(8).hex()};Sampled=0"
