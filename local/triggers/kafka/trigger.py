"""One MSK event source mapping: batches of a topic's records to a function.

The rules are Lambda's (https://docs.aws.amazon.com/lambda/latest/dg/with-msk-process.html,
https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html): a payload may hold records of several
partitions, each partition is read in order with one batch in flight, and partitions do not wait for one another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field

from local.application import KafkaMapping
from local.triggers.destinations import Destinations
from local.triggers.invoking import Invoker, backoff
from local.triggers.kafka.consumer import Assignment, ConsumerThread
from local.triggers.kafka.failures import DiscardedBatch, first_failures
from local.triggers.kafka.records import (
    MAXIMUM_EVENT_BYTES,
    Partition,
    Record,
    event_size,
    msk_event,
    partition_key,
    record_size,
)
from local.triggers.partial_failures import InvalidBatchResponseError
from local.triggers.statistics import TriggerStatistics
from local.workers import FunctionNotFoundError, Invocation, TooManyRequestsError, WorkersStoppedError

# "When you configure both infinite retries and an on-failure destination, Lambda automatically applies a maximum of
# 10 retry attempts."
RETRIES_WITH_DESTINATION = 10

# A partition's records in memory: above the first nothing more is fetched, below the second it is again.
PAUSE_ABOVE_RECORDS = 500
RESUME_BELOW_RECORDS = 200

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Backlog:
    """Records of an assigned partition that are in no batch yet, and how far the group has come."""

    assignment: Assignment
    records: deque[Record] = field(default_factory=deque)
    next_offset: int | None = None
    paused: bool = False

    @property
    def partition(self) -> Partition:
        return self.assignment.partition

    def lag(self) -> int:
        high = self.assignment.high_watermark
        return 0 if high is None or self.next_offset is None else max(0, high - self.next_offset)


@dataclass(frozen=True)
class _Attempt:
    """An invocation and the records to try again; `unlocated` when it does not say where the failure is."""

    invocation: Invocation
    remaining: list[Record]
    unlocated: bool = False


class KafkaTrigger:
    """Runs from `start` to `stop`; a trigger is used once."""

    def __init__(
        self,
        mapping: KafkaMapping,
        invoker: Invoker,
        destinations: Destinations,
        *,
        bootstrap_servers: str,
        retry_delay_seconds: tuple[float, float] = (0.1, 5.0),
    ) -> None:
        """`retry_delay_seconds` are the first and the longest wait before a failed batch is tried again."""
        self.mapping = mapping
        self.statistics = TriggerStatistics()
        self._invoker = invoker
        self._destinations = destinations
        self._bootstrap_servers = bootstrap_servers
        self._retry_delays = retry_delay_seconds
        self._retries = mapping.maximum_retry_attempts
        if self._retries < 0 and mapping.on_failure_arn:
            self._retries = RETRIES_WITH_DESTINATION
        self._backlogs: dict[Partition, _Backlog] = {}
        self._in_flight: set[Partition] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._window: asyncio.TimerHandle | None = None
        self._stopping = asyncio.Event()
        self._consumer: ConsumerThread | None = None

    async def start(self) -> None:
        """Join the group. Neither the broker nor the topics need to be there yet."""
        self._consumer = ConsumerThread(
            self.mapping.name,
            bootstrap_servers=self._bootstrap_servers,
            group=self.mapping.consumer_group,
            topics=self.mapping.topics,
            starting_position=self.mapping.starting_position,
            listener=self,
        )
        self._consumer.start()

    async def stop(self, within_seconds: float = 5.0) -> None:
        """Let running batches end, commit, and leave the group. What is not done by then comes again."""
        self._stopping.set()
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=within_seconds)
            for task in running:
                task.cancel()
        if self._window:
            self._window.cancel()
        if self._consumer:
            await self._consumer.stop()

    def lag(self) -> Mapping[str, int]:
        """Messages not yet processed, by partition (`topic-0`), of those partitions that are assigned."""
        return {partition_key(backlog.partition): backlog.lag() for backlog in self._backlogs.values()}

    def positions(self) -> Mapping[Assignment, int | None]:
        """The next offset to be processed of each partition that is assigned; None before its first message."""
        return {backlog.assignment: backlog.next_offset for backlog in self._backlogs.values()}

    # What the consumer tells (`ConsumerListener`).

    def assigned(self, assignments: Sequence[Assignment]) -> None:
        for assignment in assignments:
            self._backlogs[assignment.partition] = _Backlog(assignment)
        logger.debug("%s: assigned %s", self.mapping.name, [partition_key(each.partition) for each in assignments])

    def revoked(self, assignments: Sequence[Assignment]) -> None:
        for assignment in assignments:
            del self._backlogs[assignment.partition]

    def received(self, records: Sequence[Record]) -> None:
        for record in records:
            backlog = self._backlogs[record.partition]
            backlog.records.append(record)
            if backlog.next_offset is None:
                backlog.next_offset = record.offset
            if len(backlog.records) > PAUSE_ABOVE_RECORDS and not backlog.paused:
                backlog.paused = True
                backlog.assignment.pause()
        self._dispatch()

    # Forming batches.

    def _dispatch(self) -> None:
        """Start every batch that is due, and come back when the next one is."""
        if self._window:
            self._window.cancel()
            self._window = None
        while not self._stopping.is_set() and (ready := self._ready()):
            due_in = self._due_in(ready)
            if due_in > 0:
                self._window = asyncio.get_running_loop().call_later(due_in, self._dispatch)
                return
            self._begin(ready)

    def _ready(self) -> list[_Backlog]:
        """Partitions with records and no batch in flight, the one that waits longest first."""
        ready = [each for each in self._backlogs.values() if each.records and each.partition not in self._in_flight]
        return sorted(ready, key=lambda backlog: backlog.records[0].received_at)

    def _due_in(self, ready: Sequence[_Backlog]) -> float:
        """Seconds until the window of the oldest record closes; none when a batch is full before."""
        available = sum(len(backlog.records) for backlog in ready)
        if available >= self.mapping.batch_size or any(backlog.paused for backlog in ready):
            return 0.0
        waited = time.monotonic() - ready[0].records[0].received_at
        return self.mapping.batching_window_seconds - waited

    def _begin(self, ready: Sequence[_Backlog]) -> None:
        records: list[Record] = []
        backlogs: dict[Partition, _Backlog] = {}
        size = event_size((), self._bootstrap_servers)
        for backlog in ready:
            while backlog.records and len(records) < self.mapping.batch_size:
                size += record_size(backlog.records[0])
                if records and size > MAXIMUM_EVENT_BYTES:
                    break
                records.append(backlog.records.popleft())
                backlogs[backlog.partition] = backlog
            if backlog.records:  # the batch is full
                break
        for backlog in backlogs.values():
            self._in_flight.add(backlog.partition)
            if backlog.paused and len(backlog.records) < RESUME_BELOW_RECORDS:
                backlog.paused = False
                backlog.assignment.resume()
        task = asyncio.create_task(self._process(records, backlogs), name=f"kafka batch {self.mapping.name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # A defect of the platform: its partitions stop here rather than skip records.
            logger.error("%s: a batch is stuck until the platform starts again", self.mapping.name, exc_info=error)

    # Delivering one batch.

    async def _process(self, records: list[Record], backlogs: Mapping[Partition, _Backlog]) -> None:
        """Deliver a batch. What fails of it is tried again by partition, so that none waits for another."""
        by_partition: dict[Partition, list[Record]] = {}
        attempt: _Attempt | None = None
        if event_size(records, self._bootstrap_servers) <= MAXIMUM_EVENT_BYTES or len(records) > 1:
            attempt = await self._attempt(records, backlogs)
            if attempt is None:
                return
            records = attempt.remaining
        for record in records:
            by_partition.setdefault(record.partition, []).append(record)
        self._release(backlogs.keys() - by_partition.keys())
        await asyncio.gather(
            *(self._finish(backlogs[partition], rest, attempt) for partition, rest in by_partition.items())
        )

    async def _finish(self, backlog: _Backlog, records: list[Record], attempt: _Attempt | None) -> None:
        """Free the partition when its part of the batch is done with; `attempt` is None for what fits no event."""
        if attempt is None:
            await self._discard(backlog, records, attempts=0, last=None)
        else:
            await self._deliver(backlog, records, attempt)
        self._release({backlog.partition})

    async def _deliver(self, backlog: _Backlog, records: list[Record], failed: _Attempt | None = None) -> None:
        """Invoke until each of one partition's records is processed or given up; `failed` is the attempt before."""
        attempts = 0 if failed is None else 1
        for delay in backoff(*self._retry_delays):
            if failed is not None:
                if self.mapping.bisect_batch_on_error and failed.unlocated and len(records) > 1:
                    # Splitting does not count as a retry.
                    middle = len(records) // 2
                    await self._deliver(backlog, records[:middle])
                    return await self._deliver(backlog, records[middle:])
                if 0 <= self._retries < attempts:
                    return await self._discard(backlog, records, attempts=attempts, last=failed.invocation)
                await self._pause(delay)
            if self._stopping.is_set() or not backlog.assignment.live:
                return
            failed = await self._attempt(records, {backlog.partition: backlog})
            if failed is None or not failed.remaining:
                return
            attempts = attempts + 1 if len(failed.remaining) == len(records) else 1
            records = failed.remaining

    async def _attempt(self, records: list[Record], backlogs: Mapping[Partition, _Backlog]) -> _Attempt | None:
        """Invoke once and commit what was processed; None when the trigger stops before."""
        invocation = await self._invoke(records)
        if invocation is None:
            return None
        attempt = self._judge(records, invocation)
        self.statistics.records += len(records) - len(attempt.remaining)
        self.statistics.failures += bool(attempt.remaining)
        self._advance(records, attempt.remaining, backlogs)
        return attempt

    async def _invoke(self, records: Sequence[Record]) -> Invocation | None:
        """One attempt, waiting while the function is throttled or missing; None when the trigger stops meanwhile."""
        event = msk_event(records, self._bootstrap_servers)
        for delay in backoff(0.05, 2.0):
            if self._stopping.is_set():
                return None
            try:
                invocation = await self._invoker.invoke(self.mapping.function, event)
            except (TooManyRequestsError, WorkersStoppedError):
                await self._pause(delay)
            except FunctionNotFoundError:
                logger.warning("%s: there is no function %s", self.mapping.name, self.mapping.function)
                await self._pause(delay)
            else:
                self.statistics.invocations += 1
                return invocation
        raise AssertionError("unreachable: backoff never ends")

    def _judge(self, records: list[Record], invocation: Invocation) -> _Attempt:
        if not invocation.ok:
            return _Attempt(invocation, remaining=records, unlocated=True)
        if not self.mapping.report_batch_item_failures:
            return _Attempt(invocation, remaining=[])
        try:
            failures = first_failures(invocation.payload, records)
        except InvalidBatchResponseError as error:
            logger.warning("%s: the whole batch counts as failed: %s", self.mapping.name, error)
            return _Attempt(invocation, remaining=records, unlocated=True)
        return _Attempt(
            invocation,
            remaining=[each for each in records if each.offset >= failures.get(each.partition, each.offset + 1)],
        )

    def _advance(
        self, records: Sequence[Record], remaining: Sequence[Record], backlogs: Mapping[Partition, _Backlog]
    ) -> None:
        """Commit each partition up to its first remaining record."""
        positions = {record.partition: record.offset + 1 for record in records}
        positions |= {record.partition: record.offset for record in reversed(remaining)}
        for partition, offset in positions.items():
            backlog = backlogs[partition]
            if backlog.next_offset is None or offset > backlog.next_offset:
                backlog.next_offset = offset
                backlog.assignment.commit(offset)

    async def _discard(
        self, backlog: _Backlog, records: list[Record], *, attempts: int, last: Invocation | None
    ) -> None:
        """Send the records to the on-failure destination, however long that takes, and go on behind them."""
        first, end = records[0].offset, records[-1].offset
        name, where = self.mapping.name, partition_key(backlog.partition)
        logger.warning("%s: %s, offsets %d to %d: given up after %d attempts", name, where, first, end, attempts)
        batch = DiscardedBatch(self.mapping.function, records, self._bootstrap_servers, attempts=attempts, last=last)
        if await self._send(batch):
            self.statistics.discarded += len(records)
            self._advance(records, (), {backlog.partition: backlog})

    async def _send(self, batch: DiscardedBatch) -> bool:
        """Whether the destination, if there is one, has the batch; not so only when the trigger stops before."""
        destination = self.mapping.on_failure_arn
        if destination is None:
            return True
        for delay in backoff(0.2, 5.0):
            try:
                await batch.send(destination, self._destinations)
            except Exception as error:
                # Every destination has exceptions of its own, and any of them may pass.
                logger.warning("%s: %s takes no records: %s", self.mapping.name, destination, error)
            else:
                return True
            await self._pause(delay)
            if self._stopping.is_set():
                break
        return False

    def _release(self, partitions: Set[Partition]) -> None:
        """Let the next batches of these partitions begin."""
        self._in_flight -= partitions
        self._dispatch()

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the trigger stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
