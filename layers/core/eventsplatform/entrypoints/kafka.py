"""MSK batches, in order per partition, with partial failures and dead letters.

A partition stops at its first failure, and that record and every later one of the partition are
reported, so Lambda delivers them again in order; Powertools' own Kafka processor carries on past a
failure and would reorder. A message that can never succeed (PoisonMessageError, as for data that are not
of the schema of its type) goes to the group's dead-letter topic and counts as done; the rest of its
partition carries on. Delivery is at least once: every consumer must be idempotent.

Messages that are replayed come on the same topics. Those that are for another group count as done, and
so do all of them where a consumer has effects that nobody wants to see again (`notifies`).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

from aws_lambda_powertools.metrics import MetricUnit

from eventsplatform.config import read_setting
from eventsplatform.entrypoints.failures import failing_without_secrets
from eventsplatform.errors import PoisonMessageError
from eventsplatform.messaging import schemas
from eventsplatform.messaging.dead_letters import coordinates
from eventsplatform.messaging.envelope import Message
from eventsplatform.observability import begin_invocation, emit_metric, handling_message, logger

Record = Mapping[str, Any]
# How many messages, from the first on, are done; and what stopped the rest, if anything did.
Outcome = tuple[int, Exception | None]


class DeadLetterSink(Protocol):
    def put(self, record: Record, error: Exception, *, attempts: int) -> None:
        """Keep a record that can never be processed. Raises when it could not be kept."""


@cache
def _group_dead_letters() -> DeadLetterSink:
    from eventsplatform.adapters.kafka import dead_letter_producer
    from eventsplatform.messaging.dead_letters import DeadLetters

    return DeadLetters(dead_letter_producer(), _consumer_group())


@cache
def _consumer_group() -> str:
    return read_setting("CONSUMER_GROUP", str)


@dataclass(frozen=True)
class _Rules:
    """How a consumer's records are read, whatever becomes of them then."""

    dead_letters: Callable[[], DeadLetterSink] = _group_dead_letters
    group: Callable[[], str] = _consumer_group
    notifies: bool = False
    checked: bool = True


def kafka_consumer(consume: Callable[[Message], None] | None = None, **rules: Any) -> Any:
    """Make a Lambda handler that hands `consume` one message at a time.

    `notifies`: people or other systems are told of each message, so replays are left out unless they say that they
    are to be told again. `checked=False`: the consumer itself looks whether data are of their type's schema.
    """
    if consume is None:
        return partial(kafka_consumer, **rules)

    def one_by_one(messages: Sequence[Message]) -> Outcome:
        return _one_by_one(consume, messages)

    return _handler(one_by_one, _Rules(**rules))


def kafka_batch_consumer(consume: Callable[[Sequence[Message]], int] | None = None, **rules: Any) -> Any:
    """Make a Lambda handler that hands `consume` a partition's messages at once.

    `consume` returns how many, from the first on, are done; when it raises, none is. When one of the
    messages is poison, they are handed over again, each alone, to find out which. `rules` are those of
    `kafka_consumer`.
    """
    if consume is None:
        return partial(kafka_batch_consumer, **rules)

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

    return _handler(all_at_once, _Rules(**rules))


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


def _handler(consume: Callable[[Sequence[Message]], Outcome], rules: _Rules) -> Any:
    attempts = _Attempts()

    @failing_without_secrets
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        begin_invocation(traceparent=None, function_request_id=context.aws_request_id)
        failures: list[dict[str, Any]] = []
        for partition, records in event["records"].items():
            done = _consume_partition(records, consume, rules, attempts)
            failures += [
                {"itemIdentifier": {"partition": partition, "offset": record["offset"]}} for record in records[done:]
            ]
        return {"batchItemFailures": failures}

    return handler


class _Attempts:
    """How often the record at which a partition stopped has been tried, as far as this environment knows.

    An event source mapping of Kafka tells no count of deliveries, as one of SQS does.
    """

    def __init__(self) -> None:
        self._stopped: dict[tuple[str, int], tuple[int, int]] = {}

    def of(self, record: Record) -> int:
        """This one included."""
        offset, times = self._stopped.get((record["topic"], record["partition"]), (None, 0))
        return times + 1 if offset == record["offset"] else 1

    def stop_at(self, record: Record) -> None:
        self._stopped[record["topic"], record["partition"]] = record["offset"], self.of(record)


def _consume_partition(
    records: Sequence[Record],
    consume: Callable[[Sequence[Message]], Outcome],
    rules: _Rules,
    attempts: _Attempts,
) -> int:
    """How many records, from the first on, are done: consumed, left out or put aside as dead letters."""
    topic = records[0]["topic"]
    emit_metric("consumer_batch_size", len(records), topic=topic)
    age = max(0.0, time.time() - records[0]["timestamp"] / 1000)
    emit_metric("consumer_lag_seconds", age, unit=MetricUnit.Seconds, topic=topic)
    position = 0
    while position < len(records):
        messages, error = _decode(records[position:], rules)
        if messages:
            done, stopped_by = consume(messages)
            position += done
            error = stopped_by or error
        if error is None:
            continue
        record = records[position]
        if isinstance(error, PoisonMessageError):
            try:
                rules.dead_letters().put(record, error, attempts=attempts.of(record))
            except Exception:
                logger.exception("a dead letter could not be kept; its partition stops here")
                attempts.stop_at(record)
                return position
        elif not isinstance(error, _NotForUsError):
            emit_metric("consumer_failures_total", 1, topic=topic)
            logger.error(
                "a message failed; its partition stops here",
                exc_info=error,
                extra={"coordinates": coordinates(record)},
            )
            attempts.stop_at(record)
            return position
        position += 1
    return position


class _NotForUsError(Exception):
    """A replayed message that this consumer leaves out."""


def _decode(records: Sequence[Record], rules: _Rules) -> tuple[list[Message], Exception | None]:
    """The messages before the first that is poison or left out, and which of the two it is."""
    messages: list[Message] = []
    for record in records:
        try:
            message = Message.from_json(base64.b64decode(record.get("value") or ""))
            _require_meant(message, rules)
            if rules.checked:
                schemas.check(message)
        except (PoisonMessageError, _NotForUsError) as error:
            return messages, error
        messages.append(message)
    return messages, None


def _require_meant(message: Message, rules: _Rules) -> None:
    """Raises _NotForUsError for a replay that is not for this consumer."""
    if not message.replay_id:
        return
    if message.replayed_for not in ("", rules.group()) or (rules.notifies and not message.notifies_again):
        raise _NotForUsError
