"""MSK batches, in order per partition, with partial failures and dead letters.

A partition stops at its first failure, and that record and every later one of the partition are
reported, so Lambda delivers them again in order; Powertools' own Kafka processor carries on past a
failure and would reorder. A message that can never succeed (PoisonMessageError) goes to the group's
dead-letter topic and counts as done; the rest of its partition carries on. Delivery is at least once:
every consumer must be idempotent.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

from aws_lambda_powertools.metrics import MetricUnit

from eventsplatform.config import read_setting
from eventsplatform.entrypoints.failures import failing_without_secrets
from eventsplatform.errors import PoisonMessageError
from eventsplatform.messaging.dead_letters import coordinates
from eventsplatform.messaging.envelope import Message
from eventsplatform.observability import begin_invocation, emit_metric, handling_message, logger

Record = Mapping[str, Any]
# How many messages, from the first on, are done; and what stopped the rest, if anything did.
Outcome = tuple[int, Exception | None]


class DeadLetterSink(Protocol):
    def put(self, record: Record, error: Exception) -> None:
        """Keep a record that can never be processed. Raises when it could not be kept."""


@cache
def _group_dead_letters() -> DeadLetterSink:
    from eventsplatform.adapters.kafka import kafka_producer
    from eventsplatform.messaging.dead_letters import DeadLetters

    return DeadLetters(kafka_producer(), read_setting("CONSUMER_GROUP", str))


def kafka_consumer(
    consume: Callable[[Message], None], *, dead_letters: Callable[[], DeadLetterSink] = _group_dead_letters
) -> Any:
    """Make a Lambda handler that hands `consume` one message at a time."""

    def one_by_one(messages: Sequence[Message]) -> Outcome:
        return _one_by_one(consume, messages)

    return _handler(one_by_one, dead_letters)


def kafka_batch_consumer(
    consume: Callable[[Sequence[Message]], int], *, dead_letters: Callable[[], DeadLetterSink] = _group_dead_letters
) -> Any:
    """Make a Lambda handler that hands `consume` a partition's messages at once.

    `consume` returns how many, from the first on, are done; when it raises, none is. When one of the
    messages is poison, they are handed over again, each alone, to find out which.
    """

    def consume_alone(message: Message) -> None:
        if consume([message]) != 1:
            raise IncompleteBatchError

    def all_at_once(messages: Sequence[Message]) -> Outcome:
        with handling_message(messages[0].traceparent, message_id=messages[0].id):
            try:
                done = consume(messages)
            except PoisonMessageError:
                return _one_by_one(consume_alone, messages)
            except Exception as error:
                return 0, error
        return done, None if done == len(messages) else IncompleteBatchError()

    return _handler(all_at_once, dead_letters)


class IncompleteBatchError(RuntimeError):
    """The consumer stopped before the end of the batch, for a reason that it has logged."""


def _one_by_one(consume: Callable[[Message], None], messages: Sequence[Message]) -> Outcome:
    for done, message in enumerate(messages):
        with handling_message(message.traceparent, message_id=message.id, message_type=message.type):
            try:
                consume(message)
            except Exception as error:
                return done, error
    return len(messages), None


def _handler(consume: Callable[[Sequence[Message]], Outcome], dead_letters: Callable[[], DeadLetterSink]) -> Any:
    @failing_without_secrets
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        begin_invocation(traceparent=None, function_request_id=context.aws_request_id)
        failures: list[dict[str, Any]] = []
        for partition, records in event["records"].items():
            done = _consume_partition(records, consume, dead_letters)
            failures += [
                {"itemIdentifier": {"partition": partition, "offset": record["offset"]}} for record in records[done:]
            ]
        return {"batchItemFailures": failures}

    return handler


def _consume_partition(
    records: Sequence[Record],
    consume: Callable[[Sequence[Message]], Outcome],
    dead_letters: Callable[[], DeadLetterSink],
) -> int:
    """How many records, from the first on, are done: consumed or put aside as dead letters."""
    topic = records[0]["topic"]
    emit_metric("consumer_batch_size", len(records), topic=topic)
    age = max(0.0, time.time() - records[0]["timestamp"] / 1000)
    emit_metric("consumer_lag_seconds", age, unit=MetricUnit.Seconds, topic=topic)
    position = 0
    while position < len(records):
        messages, error = _decode_until_poison(records[position:])
        if messages:
            done, stopped_by = consume(messages)
            position += done
            error = stopped_by or error
        if error is None:
            continue
        if not isinstance(error, PoisonMessageError):
            emit_metric("consumer_failures_total", 1, topic=topic)
            logger.error(
                "a message failed; its partition stops here",
                exc_info=error,
                extra={"coordinates": coordinates(records[position])},
            )
            return position
        try:
            dead_letters().put(records[position], error)
        except Exception:
            logger.exception("a dead letter could not be kept; its partition stops here")
            return position
        position += 1
    return position


def _decode_until_poison(records: Sequence[Record]) -> tuple[list[Message], Exception | None]:
    messages: list[Message] = []
    for record in records:
        try:
            messages.append(Message.from_json(base64.b64decode(record.get("value") or "")))
        except PoisonMessageError as error:
            return messages, error
    return messages, None
