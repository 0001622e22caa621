"""A member of a consumer group on a thread of its own.

librdkafka's client must not be used from two threads here: a poll that waits on one keeps the other out. So the
thread alone touches it, calls its listener on the event loop, and takes commands from it through a queue.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from local.triggers.kafka.records import Partition, Record, record_from
from local.triggers.kafka.topics import ensure_topics

POLL_SECONDS = 0.1  # how long a command may have to wait
CHUNK_RECORDS = 500
WATERMARKS_EVERY_POLLS = 10
RETRY_SECONDS = 1.0

# A fetch that finds nothing makes the embedded broker look again after a part of this: what a message may have to
# wait for. Each fetch costs it CPU: the platform's mappings 10 % of a core while idle, with half of the wait 18 %.
FETCH_WAIT_MS = 100

logger = logging.getLogger(__name__)


class Assignment:
    """A member's hold on one partition, until it is revoked: what is asked for after that is not done."""

    def __init__(self, partition: Partition, commands: deque[Command]) -> None:
        self.partition = partition
        self.live = True
        self.high_watermark: int | None = None
        """The offset that the partition's next message will get, as of a second ago."""
        self._commands = commands

    def commit(self, offset: int) -> None:
        """Have the group continue at this offset."""
        self._commands.append(Command(self, "commit", offset))

    def pause(self) -> None:
        """Fetch nothing more until `resume`; a few messages may still come."""
        self._commands.append(Command(self, "pause"))

    def resume(self) -> None:
        self._commands.append(Command(self, "resume"))

    def at(self, offset: int = OFFSET_INVALID) -> TopicPartition:
        return TopicPartition(*self.partition, offset)


@dataclass(frozen=True)
class Command:
    assignment: Assignment
    verb: Literal["commit", "pause", "resume"]
    offset: int = OFFSET_INVALID


class ConsumerListener(Protocol):
    """Called on the event loop, in the order in which things happened."""

    def assigned(self, assignments: Sequence[Assignment]) -> None: ...

    def revoked(self, assignments: Sequence[Assignment]) -> None: ...

    def received(self, records: Sequence[Record]) -> None: ...


class ConsumerThread:
    """Reads topics as one member of a group, and starts over when the broker went away and came back."""

    def __init__(
        self,
        name: str,
        *,
        bootstrap_servers: str,
        group: str,
        topics: Sequence[str],
        starting_position: Literal["TRIM_HORIZON", "LATEST"],
        listener: ConsumerListener,
    ) -> None:
        self._name = name
        self._bootstrap_servers = bootstrap_servers
        self._group = group
        self._topics = list(topics)
        self._starting_position = starting_position
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=f"kafka {name}", daemon=True)
        self._commands: deque[Command] = deque()
        self._stopping = threading.Event()
        self._assignments: dict[Partition, Assignment] = {}
        self._received: list[Record] = []
        self._broker_lost = False

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Do what was asked for so far, commits included, leave the group and end."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)

    # Everything below runs on the thread.

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._consume()
            except Exception:
                # Whatever it is, the mapping must not end silently: a new consumer begins where commits ended.
                logger.exception("%s: the consumer failed and starts over", self._name)
                self._stopping.wait(RETRY_SECONDS)

    def _consume(self) -> None:
        """One membership, until the thread is to stop or the broker is lost."""
        self._broker_lost = False
        consumer = Consumer(self._settings())
        try:
            consumer.subscribe(
                self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            polls = 0
            while not self._stopping.is_set() and not self._broker_lost:
                self._poll(consumer)
                self._execute_commands(consumer)
                polls += 1
                if polls % WATERMARKS_EVERY_POLLS == 0:
                    self._read_watermarks(consumer)
            if not self._broker_lost:
                self._execute_commands(consumer)
        finally:
            self._revoke(list(self._assignments))
            consumer.close()

    def _settings(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self._bootstrap_servers,
            "group.id": self._group,
            "client.id": self._name,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest" if self._starting_position == "TRIM_HORIZON" else "latest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1500,
            "fetch.min.bytes": 1,
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "queued.max.messages.kbytes": 1024,
            "topic.metadata.refresh.interval.ms": 2000,  # how soon a new topic or partition is seen
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1000,
            "log_level": 0,  # what matters arrives in `_on_error`
            "error_cb": self._on_error,
            "on_commit": self._on_commit,
        }

    def _poll(self, consumer: Consumer) -> None:
        """Wait for a message and take those that are there with it."""
        message = consumer.poll(POLL_SECONDS)
        while message is not None:
            if (error := message.error()) is not None:
                self._on_message_error(error)
            else:
                self._received.append(record_from(message))
            message = consumer.poll(0) if len(self._received) < CHUNK_RECORDS else None
        self._hand_over()

    def _hand_over(self) -> None:
        if self._received:
            self._tell(self._listener.received, self._received)
            self._received = []

    def _on_message_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            logger.warning("%s: creating topics that the broker does not have (any more)", self._name)
            try:
                ensure_topics(self._bootstrap_servers, self._topics)
            except KafkaException as failure:
                logger.warning("%s: topics could not be created: %s", self._name, failure)
        else:
            logger.warning("%s: %s", self._name, error.str())

    def _execute_commands(self, consumer: Consumer) -> None:
        commits: dict[Assignment, int] = {}
        while self._commands:
            command = self._commands.popleft()
            assignment = command.assignment
            if not assignment.live:
                continue
            match command.verb:
                case "commit":
                    commits[assignment] = command.offset
                case "pause":
                    consumer.pause([assignment.at()])
                case "resume":
                    consumer.resume([assignment.at()])
        if commits:
            consumer.commit(offsets=[assignment.at(offset) for assignment, offset in commits.items()])

    def _read_watermarks(self, consumer: Consumer) -> None:
        for assignment in self._assignments.values():
            _, high = consumer.get_watermark_offsets(assignment.at(), cached=True)
            if high >= 0:
                assignment.high_watermark = high

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._hand_over()
        assignments = [Assignment((each.topic, each.partition), self._commands) for each in partitions]
        self._assignments |= {assignment.partition: assignment for assignment in assignments}
        self._tell(self._listener.assigned, assignments)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._revoke([(each.topic, each.partition) for each in partitions])

    def _revoke(self, partitions: list[Partition]) -> None:
        self._hand_over()
        revoked = [self._assignments.pop(partition) for partition in partitions if partition in self._assignments]
        for assignment in revoked:
            assignment.live = False
        if revoked:
            self._tell(self._listener.revoked, revoked)

    def _on_error(self, error: KafkaError) -> None:
        # The embedded broker keeps nothing: one that comes back may be another one, whose offsets mean other
        # messages. What this member knows of positions must not reach it.
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._assignments and not self._broker_lost:
            logger.warning("%s: the broker is gone; joining again when it is back", self._name)
            self._broker_lost = True

    def _on_commit(self, error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
        if error is not None:
            logger.warning("%s: a commit failed, its records will come again: %s", self._name, error.str())

    def _tell(self, callback: Callable[..., None], argument: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, argument)
