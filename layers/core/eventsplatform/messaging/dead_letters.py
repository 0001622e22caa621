"""Dead-letter topics: where a message that can never be processed is put aside, whole.

The record keeps its original key and bytes; headers say where it came from and what was wrong.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from eventsplatform.adapters.kafka import KafkaMessage, KafkaProducer
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.observability import emit_metric, logger


def coordinates(record: Mapping[str, Any]) -> str:
    """Where a record stands: `topic-partition@offset`."""
    return f"{record['topic']}-{record['partition']}@{record['offset']}"


class DeadLetters:
    """Writes to `<consumer group>.dlt`."""

    def __init__(self, producer: KafkaProducer, consumer_group: str) -> None:
        self._producer = producer
        self._topic = f"{consumer_group}.dlt"

    def put(self, record: Mapping[str, Any], error: Exception) -> None:
        """Keep an MSK event record. Raises DependencyUnavailableError unless Kafka acknowledged it."""
        origin = coordinates(record)
        logger.error("dead letter", extra={"coordinates": origin, "reason": str(error), "to": self._topic})
        message = KafkaMessage(
            topic=self._topic,
            key=base64.b64decode(record.get("key") or ""),
            value=base64.b64decode(record.get("value") or ""),
            headers={"dlt_origin": origin, "dlt_error": type(error).__name__, "dlt_reason": str(error)[:500]},
        )
        if self._producer.send([message]) != [True]:
            raise DependencyUnavailableError("message broker")
        emit_metric("dead_letters_total", 1, topic=str(record["topic"]))
