"""One SQS event source mapping: batches of a queue's messages to a function.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html. What succeeds is deleted; what fails stays, is seen again
when its visibility timeout is over, and reaches the dead-letter queue through the queue's own redrive policy.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from local.application import ACCOUNT_ID, REGION, QueueMapping
from local.triggers.aws import aws_client
from local.triggers.invoking import Invoker, backoff
from local.triggers.partial_failures import InvalidBatchResponseError, batch_item_identifiers
from local.triggers.statistics import TriggerStatistics
from local.workers import FunctionNotFoundError, Invocation, TooManyRequestsError, WorkersStoppedError

MAXIMUM_EVENT_BYTES = 6_291_456  # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MESSAGES_PER_CALL = 10  # what ReceiveMessage and DeleteMessageBatch take
CONCURRENCY = 5  # batches at a time, with which Lambda begins
LONG_POLL_SECONDS = 2  # also how long `stop` may take

T = TypeVar("T")

Message = Mapping[str, Any]
"""A message as boto3 returns it."""

logger = logging.getLogger(__name__)


class QueueTrigger:
    """Runs from `start` to `stop`; a trigger is used once."""

    def __init__(self, mapping: QueueMapping, invoker: Invoker, *, queue_name: str, endpoint: str) -> None:
        """`queue_name` ends in `.fifo` for a FIFO queue; `endpoint` is the local AWS endpoint."""
        self.mapping = mapping
        self.statistics = TriggerStatistics()
        self._invoker = invoker
        self._queue_name = queue_name
        self._endpoint = endpoint
        self._threads = ThreadPoolExecutor(max_workers=3, thread_name_prefix=f"queue {mapping.name}")
        self._places = asyncio.Semaphore(mapping.maximum_concurrency or CONCURRENCY)
        self._batches: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to poll. Neither the endpoint nor the queue needs to be there yet."""
        self._poller = asyncio.create_task(self._poll(), name=f"queue {self.mapping.name}")

    async def stop(self, within_seconds: float = 5.0) -> None:
        """Let running batches end. What is not done by then comes again."""
        self._stopping.set()
        tasks = {*self._batches, *([self._poller] if self._poller else [])}
        if tasks:
            _, running = await asyncio.wait(tasks, timeout=within_seconds)
            for task in running:
                task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _poll(self) -> None:
        """Receive as long as there is a place for another batch, whatever the endpoint does."""
        delays = backoff(0.1, 2.0)
        while not self._stopping.is_set():
            try:
                queue: _Queue = await self._call(_Queue, self._endpoint, self._queue_name)
                while not self._stopping.is_set():
                    await self._poll_once(queue)
                    delays = backoff(0.1, 2.0)
            except (BotoCoreError, ClientError) as error:
                logger.warning("%s: the queue cannot be read, trying again: %s", self.mapping.name, error)
                await self._pause(next(delays))

    async def _poll_once(self, queue: _Queue) -> None:
        await self._places.acquire()
        try:
            messages = await self._receive(queue)
        except BaseException:
            self._places.release()
            raise
        batch = asyncio.create_task(self._process(queue, messages), name=f"queue batch {self.mapping.name}")
        self._batches.add(batch)
        batch.add_done_callback(self._finished)

    def _finished(self, batch: asyncio.Task[None]) -> None:
        self._batches.discard(batch)
        self._places.release()
        if not batch.cancelled() and (error := batch.exception()):
            logger.error("%s: a batch failed and comes again", self.mapping.name, exc_info=error)

    async def _receive(self, queue: _Queue) -> list[Message]:
        """One batch: what is there, and what comes until the window after the first message closes."""
        messages: list[Message] = await self._call(queue.receive, self._wanted([]), LONG_POLL_SECONDS)
        closes_at = time.monotonic() + self.mapping.batching_window_seconds
        while messages and self._wanted(messages) and not self._stopping.is_set():
            left = max(0.0, closes_at - time.monotonic())
            more = await self._call(queue.receive, self._wanted(messages), min(LONG_POLL_SECONDS, math.ceil(left)))
            messages += more
            if not more and not left:
                break
        return messages

    def _wanted(self, messages: Sequence[Message]) -> int:
        return min(MESSAGES_PER_CALL, self.mapping.batch_size - len(messages))

    async def _process(self, queue: _Queue, messages: Sequence[Message]) -> None:
        for part in _fitting(messages):
            if (invocation := await self._invoke(queue, part)) is None:
                return
            done = self._succeeded(part, invocation)
            self.statistics.failures += len(done) < len(part)
            self.statistics.records += len(done)
            await self._call(queue.delete, done)

    async def _invoke(self, queue: _Queue, messages: Sequence[Message]) -> Invocation | None:
        """One attempt; None when it was not possible before the messages may be seen by others again."""
        event = sqs_event(messages, self._queue_name)
        expires_at = time.monotonic() + queue.visibility_timeout_seconds
        for delay in backoff(0.05, 2.0):
            try:
                invocation = await self._invoker.invoke(self.mapping.function, event)
            except (TooManyRequestsError, FunctionNotFoundError, WorkersStoppedError) as error:
                if self._stopping.is_set() or time.monotonic() + delay > expires_at:
                    logger.warning("%s: %s was not invoked: %s", self.mapping.name, self.mapping.function, error)
                    return None
                await self._pause(delay)
            else:
                self.statistics.invocations += 1
                return invocation
        raise AssertionError("unreachable: backoff never ends")

    def _succeeded(self, messages: Sequence[Message], invocation: Invocation) -> Sequence[Message]:
        if not invocation.ok:
            return []
        if not self.mapping.report_batch_item_failures:
            return messages
        try:
            failed = batch_item_identifiers(invocation.payload)
            if unknown := [each for each in failed if each not in {message["MessageId"] for message in messages}]:
                raise InvalidBatchResponseError(f"{unknown[0]!r} is not in the batch")
        except InvalidBatchResponseError as error:
            logger.warning("%s: the whole batch counts as failed: %s", self.mapping.name, error)
            return []
        return [message for message in messages if message["MessageId"] not in failed]

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the trigger stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


class _Queue:
    """The queue's own API; its methods block. They raise botocore's errors."""

    def __init__(self, endpoint: str, name: str) -> None:
        self._client = aws_client("sqs", endpoint)
        self._url = self._client.get_queue_url(QueueName=name)["QueueUrl"]
        attributes = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["VisibilityTimeout"])
        self.visibility_timeout_seconds = float(attributes["Attributes"]["VisibilityTimeout"])

    def receive(self, number: int, wait_seconds: int) -> list[Message]:
        response = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=number,
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[Message] = response.get("Messages", [])
        return messages

    def delete(self, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), MESSAGES_PER_CALL):
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages[start : start + MESSAGES_PER_CALL])
            ]
            response = self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
            for failure in response.get("Failed", ()):
                logger.warning("a processed message was not deleted and comes again: %s", failure.get("Message"))


def sqs_event(messages: Iterable[Message], queue_name: str) -> bytes:
    """The event for these messages."""
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{queue_name}"
    return orjson.dumps({"Records": [_record(message, arn) for message in messages]})


def _record(message: Message, queue_arn: str) -> dict[str, Any]:
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {
            name: _message_attribute(value) for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": REGION,
    }
    if "MD5OfMessageAttributes" in message:
        record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return record


def _message_attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    attribute: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        attribute["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        attribute["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return attribute


def _fitting(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The messages in parts that fit the largest event, taking each as twice its body for escapes and the rest."""
    part: list[Message] = []
    size = 0
    for message in messages:
        needed = 2 * len(message["Body"].encode()) + 4096
        if part and size + needed > MAXIMUM_EVENT_BYTES:
            yield part
            part, size = [], 0
        part.append(message)
        size += needed
    if part:
        yield part
