"""Delivering what failed to its on-failure destination: SQS queues, SNS topics, S3 buckets and Kafka topics."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from confluent_kafka import KafkaException, Producer

from local.triggers.aws import aws_client

KAFKA_SCHEME = "kafka://"
PRODUCE_WITHIN_SECONDS = 10.0


class UnsupportedDestinationError(ValueError):
    """A destination that Lambda does not know, or that does not exist on one machine."""


class DeliveryError(RuntimeError):
    """A Kafka destination that did not take the record."""


class Destinations:
    """Sends documents to wherever an on-failure destination points; each call blocks a thread, not the loop."""

    def __init__(self, aws_endpoint: str, bootstrap_servers: str) -> None:
        self._aws_endpoint = aws_endpoint
        self._bootstrap_servers = bootstrap_servers
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="destinations")
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    async def notify(self, arn: str, document: str) -> None:
        """Send to an SQS queue or publish to an SNS topic. Raises botocore's errors, UnsupportedDestinationError."""
        service = service_of(arn)
        if service == "sqs":
            await self._call(self._send_to_queue, arn.rsplit(":", 1)[1], document)
        elif service == "sns":
            await self._call(self._publish, arn, document)
        else:
            raise UnsupportedDestinationError(f"{arn} is neither a queue nor a topic")

    async def store(self, bucket_arn: str, prefix: str, document: str) -> None:
        """Put an object named as Lambda names it, below `prefix`. Raises botocore's errors."""
        now = datetime.now(UTC)
        key = f"{prefix}/{now:%Y/%m/%d}/{now:%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
        await self._call(self._put, bucket_arn.rsplit(":", 1)[1], key, document)

    async def produce(self, topic: str, messages: list[tuple[bytes | None, bytes]]) -> None:
        """Produce (key, value) pairs and wait for every acknowledgement. Raises DeliveryError."""
        await self._call(self._produce, topic, messages)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                self._clients[service] = aws_client(service, self._aws_endpoint)
            return self._clients[service]

    def _send_to_queue(self, name: str, document: str) -> None:
        sqs = self._client("sqs")
        sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"], MessageBody=document)

    def _publish(self, topic_arn: str, document: str) -> None:
        self._client("sns").publish(TopicArn=topic_arn, Message=document)

    def _put(self, bucket: str, key: str, document: str) -> None:
        self._client("s3").put_object(Bucket=bucket, Key=key, Body=document.encode())

    @cached_property
    def _producer(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._bootstrap_servers,
                "acks": "all",
                "linger.ms": 0,
                "message.timeout.ms": int(PRODUCE_WITHIN_SECONDS * 1000),
                "log_level": 0,  # a failure is raised to the caller, who reports it
                "error_cb": lambda _: None,
            }
        )

    def _produce(self, topic: str, messages: list[tuple[bytes | None, bytes]]) -> None:
        failures: list[str] = []

        def acknowledged(error: Any, _message: Any) -> None:
            if error is not None:
                failures.append(error.str())

        try:
            for key, value in messages:
                self._producer.produce(topic, value=value, key=key, on_delivery=acknowledged)
        except (KafkaException, BufferError) as error:
            raise DeliveryError(f"topic {topic}: {error}") from error
        unsent = self._producer.flush(PRODUCE_WITHIN_SECONDS + 1)
        if unsent or failures:
            raise DeliveryError(f"topic {topic}: {failures[0] if failures else f'{unsent} messages not acknowledged'}")


def service_of(arn: str) -> str:
    """`kafka` for `kafka://topic`, else the service part of an ARN."""
    if arn.startswith(KAFKA_SCHEME):
        return "kafka"
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        raise UnsupportedDestinationError(f"{arn!r} is not an ARN")
    return parts[2]
