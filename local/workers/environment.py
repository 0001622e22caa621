"""One execution environment: a process with the Lambda runtime client in it that runs one invocation at a time."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from local.application import Function
from local.workers import faults, logs
from local.workers.faults import Fault
from local.workers.fork_client import Exit, ForkedProcess, ForkRefusedError, ForkServer
from local.workers.invocation import Invocation
from local.workers.runtime_api import RuntimeApi
from local.workers.variables import environment_variables, module_path

Log = Callable[[str, bytes], None]


@dataclass(eq=False)
class Request:
    """An invocation on its way to an environment; `answer` is what its caller waits for.

    `submitted_at` is in the event loop's time.
    """

    payload: bytes
    trace_id: str
    client_context: str | None
    answer: asyncio.Future[Invocation]
    submitted_at: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class Result:
    """How an invocation ended. With `fault` it failed; `init_seconds` is set when the environment started for it."""

    invocation: Invocation
    duration_seconds: float
    init_seconds: float | None
    fault: Fault | None


class EnvironmentListener(Protocol):
    """Who owns an environment. Both calls come from the event loop."""

    def environment_finished(self, environment: ExecutionEnvironment, request: Request, result: Result | None) -> None:
        """The request given to `run` is done; without a result, it never reached the function."""

    def environment_exited(self, environment: ExecutionEnvironment) -> None:
        """The environment's process ended while nothing was running in it."""


class InitError(Exception):
    """The initialisation failed; `fault` gives the error for the request it is reported to."""

    def __init__(self, fault: Callable[[str], Fault]) -> None:
        super().__init__("initialisation failed")
        self.fault = fault


class InitTimeoutError(Exception):
    """The initialisation took too long."""


class ExecutionEnvironment:
    """Starts with `initialise`, then takes one `run` after another until it is `closed`."""

    def __init__(
        self,
        function: Function,
        *,
        provided: Mapping[str, str],
        fork_server: ForkServer,
        log: Log,
        listener: EnvironmentListener,
    ) -> None:
        self.function = function
        self.closed = False
        self.idle_since = 0.0  # in the event loop's time; kept by the pool
        self._provided = provided
        self._fork_server = fork_server
        self._log = log
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._api = RuntimeApi(self)
        self._tail = logs.Tail()
        self._initialised: asyncio.Future[None] = self._loop.create_future()
        self._init_seconds: float | None = None
        self._process: ForkedProcess | None = None
        self._output: logs.OutputPipe | None = None
        self._memory: MemoryGauge | None = None
        self._request: Request | None = None
        self._used = False
        self._started = 0.0
        self._deadline: asyncio.TimerHandle | None = None
        self._refused: Fault | None = None

    async def initialise(self, *, within: float, phase: str = "init") -> None:
        """Start the process and wait until its runtime asks for an event. Ends closed when it raises.

        Raises InitError when the function's module could not be loaded or the process ended, InitTimeoutError
        after `within` seconds. Both are logged as Lambda does, with the phase ("init", or "invoke" for an
        initialisation repeated within an invocation).
        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(within):
                await self._spawn()
                await self._initialised
        except (TimeoutError, InitError) as error:
            seconds = time.perf_counter() - started
            self.close()
            error_type = error.fault("").error_type if isinstance(error, InitError) else None
            self._write(logs.init_report_line(duration_seconds=seconds, phase=phase, error_type=error_type))
            if isinstance(error, InitError):
                raise
            raise InitTimeoutError from error
        except asyncio.CancelledError:
            self.close()
            raise
        self._init_seconds = time.perf_counter() - started

    def run(self, request: Request, *, seconds: float | None = None) -> None:
        """Begin an invocation; the listener is told when it is done. `seconds` defaults to the function's timeout."""
        seconds = self.function.timeout_seconds if seconds is None else seconds
        self._begin(request)
        self._deadline = self._loop.call_later(seconds, self._time_out)
        headers = {
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": self.function.arn,
            "Lambda-Runtime-Trace-Id": request.trace_id,
        }
        if request.client_context is not None:
            headers["Lambda-Runtime-Client-Context"] = request.client_context
        self._api.offer(request.id, request.payload, headers)

    def fail(self, request: Request, fault: Fault) -> Result:
        """The result of a request that this environment, whose initialisation failed, could not take."""
        self._begin(request)
        return self._end(fault.document, fault)

    async def kill(self) -> None:
        """SIGKILL the process, as a crash would end it, and wait until it is gone."""
        if self._process is not None and not self._process.exited.done():
            self._fork_server.kill(self._process)
            await asyncio.wait([self._process.exited])

    def close(self) -> None:
        """Kill the process, with all it has started, and let go of everything it had."""
        if self.closed:
            return
        self.closed = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._process is not None and not self._process.exited.done():
            self._fork_server.kill(self._process)
        self._api.close()
        if self._output is not None:
            self._loop.remove_reader(self._output.descriptor)
            self._output.drain()
            self._output.flush()
            os.close(self._output.descriptor)
            self._output = None
        if self._memory is not None:
            self._memory.close()

    # The Runtime API's events (`RuntimeEvents`).

    def runtime_polled(self) -> None:
        if not self._initialised.done():
            self._initialised.set_result(None)
        elif self._refused is not None:
            self._finish(self._refused.document, self._refused)

    def initialisation_failed(self, document: bytes) -> None:
        self._fail_initialisation(lambda _: faults.reported(document))

    def invocation_responded(self, response: bytes | None) -> None:
        if response is not None:
            self._finish(response, None)
        else:
            # The runtime client takes the refusal of its response as fatal. Wait for what it makes of it, so that
            # what it logs is the invocation's and nothing is given to a process about to end.
            self._refused = faults.response_too_large()

    def invocation_failed(self, document: bytes) -> None:
        self._finish(document, faults.reported(document))

    async def _spawn(self) -> None:
        runtime_api = await self._api.start()
        read_end, write_end = os.pipe()
        self._output = logs.OutputPipe(read_end, self._write)
        self._loop.add_reader(read_end, self._read_output)
        try:
            self._process = await self._fork_server.spawn(
                directory=self.function.code,
                path=module_path(self.function),
                handler=self.function.handler,
                environment=environment_variables(self.function, self._provided, runtime_api),
                output=write_end,
            )
        except ForkRefusedError as error:
            self._write(f"no process for the execution environment: {error}".encode())
            raise InitError(lambda request_id: faults.exited(request_id, 1)) from error
        finally:
            os.close(write_end)
        self._memory = MemoryGauge(self._process.pid)
        self._process.exited.add_done_callback(self._process_exited)

    def _process_exited(self, exited: asyncio.Future[Exit]) -> None:
        if self.closed:
            return
        status, max_rss_bytes = exited.result().status, exited.result().max_rss_bytes
        if self._memory is not None and max_rss_bytes is not None:
            self._memory.last = max_rss_bytes
        self.close()
        if not self._initialised.done():
            self._fail_initialisation(lambda request_id: faults.exited(request_id, status))
        elif self._request is None:
            self._listener.environment_exited(self)
        elif not self._api.delivered:
            self._give_back()
        else:
            fault = self._refused or faults.exited(self._request.id, status)
            self._finish(fault.document, fault)

    def _time_out(self) -> None:
        assert self._request is not None
        delivered = self._api.delivered
        self.close()
        if delivered:
            fault = faults.timed_out(self._request.id, self.function.timeout_seconds)
            self._finish(fault.document, fault)
        else:
            self._give_back()

    def _fail_initialisation(self, fault: Callable[[str], Fault]) -> None:
        if not self._initialised.done():
            self._initialised.set_exception(InitError(fault))

    def _begin(self, request: Request) -> None:
        self._request = request
        self._refused = None
        if self._used:
            self._tail.clear()  # what the initialisation logged belongs to the first invocation
        self._used = True
        self._write(logs.start_line(request.id))
        self._started = time.perf_counter()

    def _finish(self, payload: bytes, fault: Fault | None) -> None:
        request = self._request
        if request is not None:
            result = self._end(payload, fault)
            self._listener.environment_finished(self, request, result)

    def _end(self, payload: bytes, fault: Fault | None) -> Result:
        assert self._request is not None
        duration = time.perf_counter() - self._started
        request, self._request = self._request, None
        init_seconds, self._init_seconds = self._init_seconds, None
        if self._deadline is not None:
            self._deadline.cancel()
        if self._output is not None:
            self._output.drain()  # the pipe may lag behind the Runtime API
        self._write(logs.end_line(request.id))
        self._write(
            logs.report_line(
                request.id,
                duration_seconds=duration,
                memory_mb=self.function.memory_mb,
                max_memory_bytes=self._memory.read() if self._memory is not None else None,
                init_seconds=init_seconds,
                fault=fault,
            )
        )
        invocation = Invocation(
            request_id=request.id,
            payload=payload,
            function_error=None if fault is None else "Unhandled",
            log_tail=bytes(self._tail),
        )
        return Result(invocation, duration, init_seconds, fault)

    def _give_back(self) -> None:
        assert self._request is not None
        request, self._request = self._request, None
        self._listener.environment_finished(self, request, None)

    def _read_output(self) -> None:
        if self._output is not None and not self._output.drain():
            self._loop.remove_reader(self._output.descriptor)

    def _write(self, line: bytes) -> None:
        self._tail.add(line)
        self._log(self.function.name, line)


class MemoryGauge:
    """The most memory a process has held, from Linux's /proc; elsewhere unknown until it has ended."""

    def __init__(self, pid: int) -> None:
        self.last: int | None = None
        try:
            self._status = os.open(Path("/proc") / str(pid) / "status", os.O_RDONLY)
        except OSError:
            self._status = -1

    def read(self) -> int | None:
        """Bytes, or what was last known when the process is gone."""
        if self._status >= 0:
            try:
                status = os.pread(self._status, 4096, 0)
            except ProcessLookupError:
                return self.last
            _, found, rest = status.partition(b"VmHWM:")  # a zombie has none
            if found:
                self.last = int(rest.split(maxsplit=1)[0]) * 1024
        return self.last

    def close(self) -> None:
        self.read()
        if self._status >= 0:
            os.close(self._status)
            self._status = -1
