"""Dead-letter topics: where a message that can never be processed is put aside, whole.

The record keeps its original key, value and headers; `dlt_*` headers say where it came from, what was wrong and when.
A token that came with it is taken out: whoever may read dead letters may not act for a partner.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from eventsplatform.adapters.kafka import KafkaMessage, KafkaProducer, TopicReader
from eventsplatform.clock import Clock, rfc3339, utc_now
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.messaging.replay import DeadLetter
from eventsplatform.observability import emit_metric, logger
from eventsplatform.redaction import REDACTED

PREFIX = "dlt_"
REASON_MAXIMUM = 500

# Base64 of `{"`, with which every JWT begins (RFC 7519 §3).
_TOKEN = re.compile(rb"(?<![\w-])eyJ[\w-]{6,}(?:\.[\w-]*)+")


def coordinates(record: Mapping[str, Any]) -> str:
    """Where a record stands: `topic-partition@offset`."""
    return f"{record['topic']}-{record['partition']}@{record['offset']}"


def dead_letter_topic(consumer_group: str) -> str:
    return f"{consumer_group}.dlt"


def dead_letter(
    topic: str,
    origin: str,
    error: Exception,
    *,
    key: str | bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, str | bytes | None]],
    attempts: int,
    sent_at: int,
    put_aside_at: datetime,
) -> KafkaMessage:
    """What stood at `origin`, where it was sent `sent_at` milliseconds after 1970, as a record of a dead-letter topic.

    `attempts` is how often it has been tried.
    """
    logger.error("dead letter", extra={"coordinates": origin, "reason": str(error), "to": topic})
    kept = value if value is None else _TOKEN.sub(REDACTED.encode(), value)
    told = {
        "origin": origin,
        "error": type(error).__name__,
        "reason": str(error)[:REASON_MAXIMUM],
        "attempts": str(attempts),
        "sent_at": str(sent_at),
        "put_aside_at": rfc3339(put_aside_at),
        **({"redacted": "true"} if kept != value else {}),
    }
    return KafkaMessage(topic, key, kept, headers=[*headers, *((PREFIX + name, text) for name, text in told.items())])


class DeadLetters:
    """Writes to `<consumer group>.dlt`."""

    def __init__(self, producer: KafkaProducer, consumer_group: str, clock: Clock = utc_now) -> None:
        self._producer = producer
        self._topic = dead_letter_topic(consumer_group)
        self._clock = clock

    def put(self, record: Mapping[str, Any], error: Exception, *, attempts: int) -> None:
        """Keep an MSK event record. Raises DependencyUnavailableError unless Kafka acknowledged it."""
        message = dead_letter(
            self._topic,
            coordinates(record),
            error,
            key=_decoded(record.get("key")),
            value=_decoded(record.get("value")),
            headers=_headers(record),
            attempts=attempts,
            sent_at=record["timestamp"],
            put_aside_at=self._clock(),
        )
        if self._producer.send([message]) != [True]:
            raise DependencyUnavailableError("message broker")
        emit_metric("dead_letters_total", 1, topic=str(record["topic"]))


class KafkaDeadLetters:
    """Reads what consumer groups have put aside."""

    def __init__(self, reader: TopicReader) -> None:
        self._reader = reader

    def read(self, group: str, after: Mapping[int, int], limit: int) -> tuple[list[DeadLetter], dict[int, int], bool]:
        """Raises NotFoundError for a group that is none, DependencyUnavailableError when Kafka does not answer."""
        records, reached, is_end = self._reader.read(dead_letter_topic(group), after, limit)
        return [_letter(record) for record in records], reached, is_end


def _letter(record: Any) -> DeadLetter:
    """Of confluent_kafka's messages, which say what they are only when they are asked."""
    headers = dict(record.headers() or [])
    return DeadLetter(
        partition=record.partition(),
        offset=record.offset(),
        put_aside_at=datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC),
        key=record.key(),
        value=record.value(),
        origin=(headers.get(f"{PREFIX}origin") or b"").decode(errors="replace"),
        redacted=f"{PREFIX}redacted" in headers,
    )


def _decoded(content: str | None) -> bytes | None:
    return None if content is None else base64.b64decode(content)


def _headers(record: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """MSK events have each header's bytes as numbers, signed ones."""
    for header in record.get("headers") or []:
        for name, content in header.items():
            yield name, bytes(number & 0xFF for number in content)
