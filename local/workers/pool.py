"""The execution environments of one function: started on demand, kept warm, retired when idle or outdated."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from local.application import Function
from local.workers import faults
from local.workers.environment import (
    EnvironmentListener,
    ExecutionEnvironment,
    InitError,
    InitTimeoutError,
    Request,
    Result,
)
from local.workers.invocation import TooManyRequestsError, WorkersStoppedError

# How long a request waits for one of the busy environments before another is started for it. Lambda starts one at
# once; on one machine most invocations are over long before a start would be, and every environment costs memory.
PATIENCE_SECONDS = 0.01

Launch = Callable[[Function, EnvironmentListener], ExecutionEnvironment]


class PoolObserver(Protocol):
    """Who counts (Lambda's own CloudWatch metrics)."""

    def invoked(
        self, function: str, *, duration_seconds: float, init_seconds: float | None, error_type: str | None
    ) -> None: ...

    def throttled(self, function: str) -> None: ...

    def scaled(self, function: str, *, environments: int, running: int) -> None: ...


class Pool:
    """Gives each request an environment of its own for as long as it runs.

    An idle environment is taken before a new one is started, the one used last first, so that surplus ones stay
    idle and are retired. With `maximum_environments` busy, requests wait in order of arrival.
    """

    def __init__(
        self,
        function: Function,
        *,
        launch: Launch,
        observer: PoolObserver | None,
        maximum_environments: int,
        idle_seconds: float,
        init_seconds: float,
    ) -> None:
        self.function = function
        self._launch = launch
        self._observer = observer
        self._maximum_environments = maximum_environments
        self._idle_seconds = idle_seconds
        self._init_seconds = init_seconds
        self._loop = asyncio.get_running_loop()
        self._current: set[ExecutionEnvironment] = set()  # those that may take further requests
        self._outdated: set[ExecutionEnvironment] = set()  # those that only finish what they are running
        self._idle: list[ExecutionEnvironment] = []  # used last at the end
        self._starts: set[asyncio.Task[None]] = set()
        self._waiting: deque[Request] = deque()
        self._running: dict[ExecutionEnvironment, Request] = {}
        self._idle_timer: asyncio.TimerHandle | None = None
        self._patience_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def submit(self, request: Request) -> None:
        """Run the request as soon as an environment is free. Raises TooManyRequestsError over reserved concurrency."""
        reserved = self.function.reserved_concurrency
        if reserved is not None and len(self._running) + len(self._waiting) >= reserved:
            if self._observer is not None:
                self._observer.throttled(self.function.name)
            raise TooManyRequestsError("Rate Exceeded.")
        self._waiting.append(request)
        self._dispatch()

    async def warm(self) -> None:
        """Have at least one environment initialised. A failing initialisation shows in the log only."""
        if not self._current:
            await asyncio.wait((self._start(),))

    def retire(self, function: Function | None = None) -> None:
        """Let no further request run in the present environments; busy ones finish first.

        `function` is the new definition when that is what has changed.
        """
        if function is not None:
            self.function = function
        for start in self._starts:
            start.cancel()
        for environment in self._idle:
            environment.close()
        self._idle.clear()
        self._outdated |= self._running.keys()
        self._current.clear()
        self._dispatch()

    async def kill(self) -> None:
        """End whatever is running, as a crash would, and wait until it is gone."""
        await asyncio.gather(*(environment.kill() for environment in self._running))

    def close(self) -> None:
        """End everything at once; callers that still wait get WorkersStoppedError."""
        self._closed = True
        unanswered = [*self._waiting, *self._running.values()]
        self._waiting.clear()
        self._running.clear()
        for start in self._starts:
            start.cancel()
        for environment in self._current | self._outdated:
            environment.close()
        self._current.clear()
        self._outdated.clear()
        self._idle.clear()
        for timer in (self._idle_timer, self._patience_timer):
            if timer is not None:
                timer.cancel()
        for request in unanswered:
            if not request.answer.done():
                request.answer.set_exception(WorkersStoppedError(f"{self.function.name}: stopped"))

    # What environments report (`EnvironmentListener`).

    def environment_finished(self, environment: ExecutionEnvironment, request: Request, result: Result | None) -> None:
        del self._running[environment]
        if result is None:
            self._waiting.appendleft(request)
        else:
            self._answer(request, result)
        if environment.closed or environment in self._outdated:
            self._drop(environment)
        else:
            self._release(environment)
        self._dispatch()

    def environment_exited(self, environment: ExecutionEnvironment) -> None:
        if environment in self._idle:
            self._idle.remove(environment)
        self._drop(environment)

    def _dispatch(self) -> None:
        """Give waiting requests to idle environments and start as many new ones as are wanted and allowed."""
        while self._waiting and (self._idle or self._waiting[0].answer.cancelled()):
            request = self._waiting.popleft()
            if not request.answer.cancelled():
                self._run(self._idle.pop(), request)
        while self._starts_wanted() > len(self._starts) and len(self._current) < self._maximum_environments:
            self._start()
        if self._observer is not None:
            environments = len(self._current) + len(self._outdated)
            self._observer.scaled(self.function.name, environments=environments, running=len(self._running))

    def _starts_wanted(self) -> int:
        """How many waiting requests have not got a busy environment in time; comes back for those that still may."""
        if self._current.isdisjoint(self._running):
            return len(self._waiting)
        now = self._loop.time()
        overdue = sum(request.submitted_at + PATIENCE_SECONDS <= now for request in self._waiting)
        if overdue < len(self._waiting) and self._patience_timer is None:
            self._patience_timer = self._loop.call_later(PATIENCE_SECONDS, self._lose_patience)
        return overdue

    def _lose_patience(self) -> None:
        self._patience_timer = None
        self._dispatch()

    def _run(self, environment: ExecutionEnvironment, request: Request, *, seconds: float | None = None) -> None:
        self._running[environment] = request
        environment.run(request, seconds=seconds)

    def _start(self) -> asyncio.Task[None]:
        environment = self._launch(self.function, self)
        self._current.add(environment)
        start = asyncio.create_task(self._initialise(environment))
        self._starts.add(start)
        start.add_done_callback(self._started)
        return start

    def _started(self, start: asyncio.Task[None]) -> None:
        self._starts.discard(start)
        if not self._closed:
            self._dispatch()
        if not start.cancelled():
            start.result()

    async def _initialise(self, environment: ExecutionEnvironment) -> None:
        """Start an environment for whichever request is first in line when it is ready, or has failed.

        Lambda runs an initialisation that has failed once more before it tells the caller; here the first try counts.
        """
        try:
            await environment.initialise(within=self._init_seconds)
        except InitTimeoutError:
            self._drop(environment)
            if (request := self._next_waiting()) is not None:
                await self._initialise_within_invocation(request)
        except InitError as error:
            self._drop(environment)
            if (request := self._next_waiting()) is not None:
                self._answer(request, environment.fail(request, error.fault(request.id)))
        else:
            if not environment.closed:
                self._release(environment)
            self._dispatch()

    async def _initialise_within_invocation(self, request: Request) -> None:
        """Lambda repeats an initialisation that was too slow as part of the invocation, on the function's own time."""
        function = self.function
        environment = self._launch(function, self)
        self._current.add(environment)
        self._running[environment] = request
        started = self._loop.time()
        try:
            await environment.initialise(within=function.timeout_seconds, phase="invoke")
        except (InitTimeoutError, InitError) as error:
            del self._running[environment]
            self._drop(environment)
            if isinstance(error, InitError):
                fault = error.fault(request.id)
            else:
                fault = faults.timed_out(request.id, function.timeout_seconds)
            self._answer(request, environment.fail(request, fault))
        except asyncio.CancelledError:
            if self._running.pop(environment, None) is not None:
                self._drop(environment)
                self._waiting.appendleft(request)
            raise
        else:
            self._run(environment, request, seconds=function.timeout_seconds - (self._loop.time() - started))

    def _next_waiting(self) -> Request | None:
        while self._waiting:
            request = self._waiting.popleft()
            if not request.answer.cancelled():
                return request
        return None

    def _answer(self, request: Request, result: Result) -> None:
        if self._observer is not None:
            self._observer.invoked(
                self.function.name,
                duration_seconds=result.duration_seconds,
                init_seconds=result.init_seconds,
                error_type=result.fault.error_type if result.fault is not None else None,
            )
        if not request.answer.done():
            request.answer.set_result(result.invocation)

    def _release(self, environment: ExecutionEnvironment) -> None:
        environment.idle_since = self._loop.time()
        self._idle.append(environment)
        if self._idle_timer is None:
            self._idle_timer = self._loop.call_later(self._idle_seconds, self._retire_idle)

    def _retire_idle(self) -> None:
        """Close what has been idle for long enough. The stack is ordered: what lies lowest was used longest ago."""
        self._idle_timer = None
        used_before = self._loop.time() - self._idle_seconds
        while self._idle and self._idle[0].idle_since <= used_before:
            environment = self._idle.pop(0)
            environment.close()
            self._drop(environment)
        if self._idle:
            self._idle_timer = self._loop.call_at(self._idle[0].idle_since + self._idle_seconds, self._retire_idle)

    def _drop(self, environment: ExecutionEnvironment) -> None:
        self._current.discard(environment)
        self._outdated.discard(environment)
        environment.close()
