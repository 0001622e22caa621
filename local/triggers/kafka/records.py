"""Kafka messages as the MSK event carries them.

https://docs.aws.amazon.com/lambda/latest/dg/with-msk.html shows an event. What it does not show is taken from how
Powertools for AWS Lambda reads real ones: keys and values that are null are absent, and header bytes are signed.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from local.application import ACCOUNT_ID, REGION

MAXIMUM_EVENT_BYTES = 6_291_456  # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
EVENT_SOURCE_ARN = f"arn:aws:kafka:{REGION}:{ACCOUNT_ID}:cluster/local/00000000-0000-0000-0000-000000000000-1"

Partition = tuple[str, int]
"""A topic and the number of one of its partitions."""


@dataclass(frozen=True, eq=False)
class Record:
    """One message, already in the form the event holds; `received_at` is on the monotonic clock."""

    partition: Partition
    offset: int
    timestamp_ms: int
    key: bytes | None
    document: bytes
    received_at: float = field(default_factory=time.monotonic)


def record_from(message: Message) -> Record:
    """The record of a message that a consumer got, as opposed to one that is an error or still to be produced."""
    timestamp_type, timestamp_ms = message.timestamp()
    topic, partition, offset = cast(str, message.topic()), cast(int, message.partition()), cast(int, message.offset())
    key, value = cast(bytes | None, message.key()), cast(bytes | None, message.value())
    headers = cast(list[tuple[str, bytes | None]], message.headers() or [])
    document: dict[str, Any] = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timestamp": timestamp_ms,
        "timestampType": "LOG_APPEND_TIME" if timestamp_type == TIMESTAMP_LOG_APPEND_TIME else "CREATE_TIME",
    }
    if key is not None:
        document["key"] = base64.b64encode(key).decode()
    if value is not None:
        document["value"] = base64.b64encode(value).decode()
    document["headers"] = [{name: _signed(content or b"")} for name, content in headers]
    return Record((topic, partition), offset, timestamp_ms, key, orjson.dumps(document))


def partition_key(partition: Partition) -> str:
    """How events, responses and failure records name a partition."""
    return f"{partition[0]}-{partition[1]}"


def msk_event(records: Iterable[Record], bootstrap_servers: str) -> bytes:
    """The event for these records, which are in order within each partition."""
    by_partition: dict[str, list[orjson.Fragment]] = {}
    for record in records:
        by_partition.setdefault(partition_key(record.partition), []).append(orjson.Fragment(record.document))
    return orjson.dumps(
        {
            "eventSource": "aws:kafka",
            "eventSourceArn": EVENT_SOURCE_ARN,
            "bootstrapServers": bootstrap_servers,
            "records": by_partition,
        }
    )


def event_size(records: Sequence[Record], bootstrap_servers: str) -> int:
    """An upper bound of the event's bytes, without building it."""
    envelope = 128 + len(EVENT_SOURCE_ARN) + len(bootstrap_servers)
    return envelope + sum(record_size(record) for record in records)


def record_size(record: Record) -> int:
    """An upper bound of what the record adds to an event: itself, and the name of its partition."""
    return len(record.document) + len(record.partition[0].encode()) + 24


def _signed(content: bytes) -> list[int]:
    return list(memoryview(content).cast("b"))
