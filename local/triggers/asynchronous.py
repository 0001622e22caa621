"""Lambda's asynchronous invocation: accepted at once, run later, retried, and reported when given up.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html. Lambda waits one minute before the first retry
and two before the second; on one machine that is one second and two unless told otherwise. Events are held in
memory: stopping waits for them up to a deadline, and what is then left is lost and logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from local.application import Function
from local.triggers.destinations import Destinations, service_of
from local.triggers.invoking import Invoker, backoff
from local.triggers.statistics import TriggerStatistics
from local.workers import FunctionNotFoundError, Invocation, PayloadTooLargeError, TooManyRequestsError

MAXIMUM_PAYLOAD_BYTES = 1_048_576  # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
CONCURRENCY = 4  # per function: a burst of events must not take every execution environment from the API
DELIVERY_ATTEMPTS = 5

Condition = Literal["RetriesExhausted", "EventAgeExceeded"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Event:
    function: str
    payload: bytes
    request_id: str
    trace_id: str | None
    client_context: str | None
    accepted_at: float = field(default_factory=time.monotonic)

    def age(self) -> float:
        return time.monotonic() - self.accepted_at


class AsyncInvocations:
    """The queue of events per function. Everything happens on the event loop that calls `submit`."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        invoker: Invoker,
        destinations: Destinations,
        *,
        retry_delay_seconds: Sequence[float] = (1.0, 2.0),
    ) -> None:
        """`retry_delay_seconds` are the waits before each retry; the last stands for all further ones."""
        self._functions = functions
        self._invoker = invoker
        self._destinations = destinations
        self._retry_delays = retry_delay_seconds
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._pending: dict[asyncio.Task[None], _Event] = {}
        self._statistics: defaultdict[str, TriggerStatistics] = defaultdict(TriggerStatistics)

    @property
    def pending(self) -> int:
        """Events accepted and neither done nor given up."""
        return len(self._pending)

    def statistics(self) -> Mapping[str, TriggerStatistics]:
        """By function, for those that were invoked asynchronously."""
        return self._statistics

    def update(self, functions: Mapping[str, Function]) -> None:
        self._functions = functions

    def submit(
        self, name: str, payload: bytes, *, trace_id: str | None = None, client_context: str | None = None
    ) -> str:
        """Accept an event and return its request id.

        Raises FunctionNotFoundError, and PayloadTooLargeError above 1 MB.
        """
        if name not in self._functions:
            raise FunctionNotFoundError(name)
        if len(payload) > MAXIMUM_PAYLOAD_BYTES:
            raise PayloadTooLargeError(f"{len(payload)} bytes; an asynchronous event may have {MAXIMUM_PAYLOAD_BYTES}")
        event = _Event(name, payload, str(uuid.uuid4()), trace_id, client_context)
        task = asyncio.get_running_loop().create_task(self._handle(event), name=f"async {name}")
        self._pending[task] = event
        task.add_done_callback(self._finished)
        return event.request_id

    async def drain(self, within_seconds: float, *, leaving: Set[str] = frozenset()) -> None:
        """Wait until no event is pending, those that came meanwhile included, then give up the rest.

        Events of the functions `leaving` are given up at once.
        """
        for task in [task for task, event in self._pending.items() if event.function in leaving]:
            task.cancel()
        deadline = time.monotonic() + within_seconds
        while self._pending and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(list(self._pending), timeout=left)
        lost = dict(self._pending)
        for task, event in lost.items():
            logger.error("%s: asynchronous event %s is lost at stop", event.function, event.request_id)
            task.cancel()
        if lost:
            await asyncio.wait(list(lost))

    def _finished(self, task: asyncio.Task[None]) -> None:
        event = self._pending.pop(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s: asynchronous event %s failed", event.function, event.request_id, exc_info=error)

    async def _handle(self, event: _Event) -> None:
        """Run the event until it succeeds or Lambda would give it up."""
        config = self._functions[event.function].async_invoke
        attempts = 0
        invocation: Invocation | None = None
        while True:
            invocation = await self._invoke(event, config.maximum_event_age_seconds)
            if invocation is None:
                return await self._give_up(event, "EventAgeExceeded", attempts, None)
            attempts += 1
            if invocation.ok:
                return
            if attempts > config.maximum_retry_attempts:
                return await self._give_up(event, "RetriesExhausted", attempts, invocation)
            delay = self._retry_delays[min(attempts, len(self._retry_delays)) - 1]
            if event.age() + delay > config.maximum_event_age_seconds:
                return await self._give_up(event, "EventAgeExceeded", attempts, invocation)
            await asyncio.sleep(delay)

    async def _invoke(self, event: _Event, maximum_age_seconds: float) -> Invocation | None:
        """One attempt, waiting while the function is throttled; None when the event grew too old meanwhile."""
        statistics = self._statistics[event.function]
        for delay in backoff(0.05, 2.0):
            try:
                async with self._turn(event.function):
                    invocation = await self._invoker.invoke(
                        event.function, event.payload, trace_id=event.trace_id, client_context=event.client_context
                    )
            except TooManyRequestsError:
                if event.age() + delay > maximum_age_seconds:
                    return None
                await asyncio.sleep(delay)
            else:
                statistics.invocations += 1
                statistics.records += invocation.ok
                statistics.failures += not invocation.ok
                return invocation
        raise AssertionError("unreachable: backoff never ends")

    def _turn(self, name: str) -> asyncio.Semaphore:
        """A first-come-first-served place among the function's concurrent events."""
        return self._turns.setdefault(name, asyncio.Semaphore(CONCURRENCY))

    async def _give_up(self, event: _Event, condition: Condition, attempts: int, last: Invocation | None) -> None:
        self._statistics[event.function].discarded += 1
        function = self._functions[event.function]
        logger.warning(
            "%s: event %s given up: %s after %d attempts", function.name, event.request_id, condition, attempts
        )
        arn = function.async_invoke.on_failure_arn
        if arn is None:
            return
        record = _invocation_record(function, event, condition, attempts, last)
        for attempt, delay in enumerate(backoff(0.2, 5.0), start=1):
            try:
                return await self._send(arn, function.name, record)
            except Exception as error:
                # Every destination has exceptions of its own, and any of them may pass.
                if attempt == DELIVERY_ATTEMPTS:
                    logger.exception("%s: no record of event %s at %s", function.name, event.request_id, arn)
                    return
                logger.warning("%s: %s does not take the record, trying again: %s", function.name, arn, error)
                await asyncio.sleep(delay)

    async def _send(self, arn: str, function: str, record: str) -> None:
        match service_of(arn):
            case "lambda":
                self.submit(arn.split(":")[6], record.encode())
            case "s3":
                await self._destinations.store(arn, f"aws/lambda/async/{function}", record)
            case _:
                await self._destinations.notify(arn, record)


def _invocation_record(
    function: Function, event: _Event, condition: Condition, attempts: int, last: Invocation | None
) -> str:
    """https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html"""
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z",
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": f"{function.arn}:$LATEST",
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "requestPayload": _parsed(event.payload),
    }
    if last is not None:
        record["responseContext"] = {
            "statusCode": 200,
            "executedVersion": last.executed_version,
            "functionError": last.function_error,
        }
        record["responsePayload"] = _parsed(last.payload)
    return json.dumps(record)


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")
