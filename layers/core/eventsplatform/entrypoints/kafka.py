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

import time
from binascii import a2b_base64
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
from eventsplatform.messaging.model import Batch, Outcome
from eventsplatform.observability import begin_invocation, emit_metric, handling_message, logger

Record = Mapping[str, Any]


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

    def one_by_one(batch: Batch) -> Outcome:
        return _one_by_one(consume, batch.messages)

    return _handler(_one_after_another(one_by_one), _Rules(**rules))


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

    def all_at_once(batch: Batch) -> Outcome:
        messages = batch.messages
        with handling_message(messages[0].traceparent, message_id=messages[0].id):
            try:
                done = consume(messages)
            except PoisonMessageError:
                return _one_by_one(consume_alone, messages)
            except Exception as error:
                return 0, error
        return done, None

    return _handler(_one_after_another(all_at_once), _Rules(**rules))


def kafka_partitions_consumer(
    consume: Callable[[Sequence[Batch]], Sequence[Outcome]] | None = None, **rules: Any
) -> Any:
    """Make a Lambda handler that hands `consume` the messages of several partitions, to be done at the same time.

    `consume` returns for each partition how many of its messages, from the first on, are done, and the error of the
    next one, if it has one. What stands behind poison is handed over anew. `rules` are those of `kafka_consumer`.
    """
    if consume is None:
        return partial(kafka_partitions_consumer, **rules)

    def all_at_once(batches: Sequence[Batch]) -> Sequence[Outcome]:
        first = batches[0].messages[0]
        with handling_message(first.traceparent, message_id=first.id):
            try:
                return consume(batches)
            except Exception as error:
                return [(0, error)] * len(batches)

    return _handler(all_at_once, _Rules(**rules))


class IncompleteBatchError(RuntimeError):
    """The consumer stopped before the end of the batch, for a reason that it has logged."""


def _one_after_another(consume: Callable[[Batch], Outcome]) -> Callable[[Sequence[Batch]], Sequence[Outcome]]:
    return lambda batches: [consume(batch) for batch in batches]


def _one_by_one(consume: Callable[[Message], None], messages: Sequence[Message]) -> Outcome:
    for done, message in enumerate(messages):
        with handling_message(message.traceparent, message_id=message.id, message_type=message.type):
            try:
                consume(message)
            except Exception as error:
                return done, error
    return len(messages), None


def _handler(consume: Callable[[Sequence[Batch]], Sequence[Outcome]], rules: _Rules) -> Any:
    attempts = _Attempts()

    @failing_without_secrets
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        begin_invocation(traceparent=None, function_request_id=context.aws_request_id)
        partitions = [_Partition(name, records, rules, attempts) for name, records in event["records"].items()]
        while batches := [(each, batch) for each in partitions if (batch := each.next_batch())]:
            outcomes = consume([batch for _, batch in batches])
            for (partition, batch), (done, error) in zip(batches, outcomes, strict=True):
                ended = error is not None or done == len(batch.messages)
                partition.advance(done, error if ended else IncompleteBatchError())
        return {
            "batchItemFailures": [
                {"itemIdentifier": {"partition": each.name, "offset": record["offset"]}}
                for each in partitions
                for record in each.remaining
            ]
        }

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


class _Partition:
    """A partition's records: `remaining` are those not yet done, that is consumed, left out or put aside."""

    def __init__(self, name: str, records: Sequence[Record], rules: _Rules, attempts: _Attempts) -> None:
        self.name = name
        self.remaining = records
        self._topic: str = records[0]["topic"]
        self._rules = rules
        self._attempts = attempts
        self._stopped = False
        emit_metric("consumer_batch_size", len(records), topic=self._topic)
        age = max(0.0, time.time() - records[0]["timestamp"] / 1000)
        emit_metric("consumer_lag_seconds", age, unit=MetricUnit.Seconds, topic=self._topic)

    def next_batch(self) -> Batch | None:
        """The messages up to the next record that is none for this consumer; None when there are no more."""
        while self.remaining and not self._stopped:
            messages, error = _decode(self.remaining, self._rules)
            if messages:
                return Batch(self._topic, messages)
            self.advance(0, error)
        return None

    def advance(self, done: int, error: Exception | None) -> None:
        """Leave behind what is done, and the next record as well when it is poison that is kept or left out.

        Any other error stops the partition.
        """
        self.remaining = self.remaining[done:]
        if error is None:
            return
        record = self.remaining[0]
        if isinstance(error, PoisonMessageError):
            try:
                self._rules.dead_letters().put(record, error, attempts=self._attempts.of(record))
            except Exception:
                logger.exception("a dead letter could not be kept; its partition stops here")
                self._stop_at(record)
                return
        elif not isinstance(error, _NotForUsError):
            emit_metric("consumer_failures_total", 1, topic=self._topic)
            logger.error(
                "a message failed; its partition stops here",
                exc_info=error,
                extra={"coordinates": coordinates(record)},
            )
            self._stop_at(record)
            return
        self.remaining = self.remaining[1:]

    def _stop_at(self, record: Record) -> None:
        self._attempts.stop_at(record)
        self._stopped = True


class _NotForUsError(Exception):
    """A replayed message that this consumer leaves out."""


def _decode(records: Sequence[Record], rules: _Rules) -> tuple[list[Message], Exception | None]:
    """The messages before the first that is poison or left out, and which of the two it is."""
    messages: list[Message] = []
    for record in records:
        try:
            message = Message.from_json(a2b_base64(record.get("value") or ""))
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
