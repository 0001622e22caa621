"""Schedules: invoking a function, or starting a state machine, when an expression is due."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from local.application import ACCOUNT_ID, REGION, Schedule
from local.triggers.schedule_expressions import parse_expression
from local.triggers.statistics import TriggerStatistics

LONGEST_SLEEP = timedelta(seconds=30)

logger = logging.getLogger(__name__)


class Clock(Protocol):
    def now(self) -> datetime:
        """The current time, in UTC."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class AsyncFunctions(Protocol):
    def submit(self, name: str, payload: bytes) -> str: ...


class StateMachines(Protocol):
    async def start_execution(self, name: str, document: str) -> None: ...


class ScheduleTrigger:
    """Runs one schedule. A machine that slept through several due times runs it once when it wakes."""

    def __init__(
        self,
        schedule: Schedule,
        functions: AsyncFunctions,
        state_machines: StateMachines,
        *,
        clock: Clock | None = None,
    ) -> None:
        """Raises InvalidScheduleError."""
        self.schedule = schedule
        self.statistics = TriggerStatistics()
        self._functions = functions
        self._state_machines = state_machines
        self._clock = clock or SystemClock()
        self._expression = parse_expression(schedule.expression, anchor=self._clock.now())
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"schedule {self.schedule.name}")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        due = self._expression.next_after(self._clock.now())
        while due is not None:
            await self._sleep_until(due)
            await self._fire(due)
            due = self._expression.next_after(self._clock.now())
        logger.info("schedule %s: %s is never due again", self.schedule.name, self.schedule.expression)

    async def _sleep_until(self, due: datetime) -> None:
        # In short sleeps, because the event loop's clock stands still while the machine is suspended.
        while (left := due - self._clock.now()) > timedelta():
            await self._clock.sleep(min(left, LONGEST_SLEEP).total_seconds())

    async def _fire(self, due: datetime) -> None:
        document = self.schedule.input or json.dumps(scheduled_event(self.schedule.name, due))
        self.statistics.invocations += 1
        try:
            if self.schedule.function:
                self._functions.submit(self.schedule.function, document.encode())
            if self.schedule.state_machine:
                await self._state_machines.start_execution(self.schedule.state_machine, document)
        except Exception:
            # One run that cannot start, whatever the reason, must not end the schedule.
            self.statistics.failures += 1
            logger.exception("schedule %s could not start its target", self.schedule.name)
        else:
            self.statistics.records += 1


def scheduled_event(name: str, due: datetime) -> dict[str, Any]:
    """https://docs.aws.amazon.com/lambda/latest/dg/with-eventbridge-scheduler.html"""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT_ID,
        "time": f"{due:%Y-%m-%dT%H:%M:%SZ}",
        "region": REGION,
        "resources": [f"arn:aws:events:{REGION}:{ACCOUNT_ID}:rule/{name}"],
        "detail": {},
    }
