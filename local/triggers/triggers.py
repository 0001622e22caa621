"""`Triggers`: everything in a template that invokes a function without being asked over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Set
from dataclasses import asdict

from local.application import Application
from local.triggers.asynchronous import AsyncInvocations
from local.triggers.destinations import Destinations
from local.triggers.invoking import Invoker
from local.triggers.kafka import Assignment, KafkaTrigger
from local.triggers.queues import QueueTrigger
from local.triggers.schedules import ScheduleTrigger
from local.triggers.state_machines import StepFunctions


class Triggers:
    """The application's event source mappings and schedules, and the queue of asynchronous invocations.

    `asynchronous` works without `start`: the Invoke API hands over to it.
    """

    def __init__(
        self, application: Application, invoker: Invoker, *, aws_endpoint: str, bootstrap_servers: str
    ) -> None:
        self._application = application
        self._invoker = invoker
        self._aws_endpoint = aws_endpoint
        self._bootstrap_servers = bootstrap_servers
        self._destinations = Destinations(aws_endpoint, bootstrap_servers)
        self._state_machines = StepFunctions(aws_endpoint)
        self.asynchronous = AsyncInvocations(application.functions, invoker, self._destinations)
        self._kafka: dict[str, KafkaTrigger] = {}
        self._queues: dict[str, QueueTrigger] = {}
        self._schedules: dict[str, ScheduleTrigger] = {}

    async def start(self) -> None:
        """Begin to poll and to wait. Raises InvalidScheduleError before anything has begun."""
        await self._follow(self._application)

    async def update(self, application: Application) -> None:
        """Follow a changed template: what is new begins, what is gone or different ends.

        Raises InvalidScheduleError before anything has changed.
        """
        await self._follow(application)

    async def stop(self, within_seconds: float = 10.0, *, leaving: Set[str] = frozenset()) -> None:
        """Take in nothing more, let what runs end within the time, and give up the rest.

        Scheduled runs of the functions `leaving` are not waited for.
        """
        deadline = time.monotonic() + within_seconds
        await self._end(list(self._schedules), list(self._queues), list(self._kafka), within_seconds / 2)
        await self.asynchronous.drain(max(0.0, deadline - time.monotonic()), leaving=leaving)
        self._destinations.close()

    def statistics(self) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
        """Totals by kind (`kafka`, `queues`, `schedules`, `asynchronous`) and mapping, schedule or function.

        Kafka mappings have their `lag` beside the fields of TriggerStatistics.
        """
        return {
            "kafka": {
                name: {**asdict(trigger.statistics), "lag": sum(trigger.lag().values())}
                for name, trigger in self._kafka.items()
            },
            "queues": {name: asdict(trigger.statistics) for name, trigger in self._queues.items()},
            "schedules": {name: asdict(trigger.statistics) for name, trigger in self._schedules.items()},
            "asynchronous": {name: asdict(each) for name, each in self.asynchronous.statistics().items()},
        }

    def kafka_lag(self) -> Mapping[str, Mapping[str, int]]:
        """Messages not yet processed by mapping and partition."""
        return {name: trigger.lag() for name, trigger in self._kafka.items()}

    def kafka_positions(self) -> Mapping[str, Mapping[Assignment, int | None]]:
        """Where each mapping stands in the partitions that it holds."""
        return {name: trigger.positions() for name, trigger in self._kafka.items()}

    async def _follow(self, application: Application) -> None:
        wanted_schedules = {each.name: each for each in application.schedules if each.enabled}
        wanted_queues = {each.name: each for each in application.queue_mappings if each.enabled}
        wanted_kafka = {each.name: each for each in application.kafka_mappings if each.enabled}
        schedules = {
            name: ScheduleTrigger(schedule, self.asynchronous, self._state_machines)
            for name, schedule in wanted_schedules.items()
            if name not in self._schedules or self._schedules[name].schedule != schedule
        }
        queues = {
            name: QueueTrigger(mapping, self._invoker, queue_name=mapping.queue, endpoint=self._aws_endpoint)
            for name, mapping in wanted_queues.items()
            if name not in self._queues or self._queues[name].mapping != mapping
        }
        kafka = {
            name: KafkaTrigger(mapping, self._invoker, self._destinations, bootstrap_servers=self._bootstrap_servers)
            for name, mapping in wanted_kafka.items()
            if name not in self._kafka or self._kafka[name].mapping != mapping
        }
        await self._end(
            [name for name in self._schedules if name in schedules or name not in wanted_schedules],
            [name for name in self._queues if name in queues or name not in wanted_queues],
            [name for name in self._kafka if name in kafka or name not in wanted_kafka],
            5.0,
        )
        self.asynchronous.update(application.functions)
        self._schedules |= schedules
        self._queues |= queues
        self._kafka |= kafka
        await asyncio.gather(
            *(trigger.start() for trigger in schedules.values()),
            *(trigger.start() for trigger in queues.values()),
            *(trigger.start() for trigger in kafka.values()),
        )

    async def _end(self, schedules: list[str], queues: list[str], kafka: list[str], within_seconds: float) -> None:
        await asyncio.gather(
            *(self._schedules.pop(name).stop() for name in schedules),
            *(self._queues.pop(name).stop(within_seconds) for name in queues),
            *(self._kafka.pop(name).stop(within_seconds) for name in kafka),
        )
