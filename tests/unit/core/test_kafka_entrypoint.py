from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from eventsplatform.entrypoints.kafka import kafka_batch_consumer, kafka_consumer, kafka_partitions_consumer
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import Batch, Outcome
from tests.support.lambda_events import Context, event_data, kafka_event, message

TOPIC = "evp.events.v1"


class Sink:
    """Dead letters by offset; `full` makes it refuse them."""

    def __init__(self, full: bool = False) -> None:
        self.offsets: list[int] = []
        self.reasons: list[str] = []
        self.attempts: list[int] = []
        self.full = full

    def put(self, record: Mapping[str, Any], error: Exception, *, attempts: int) -> None:
        if self.full:
            raise DependencyUnavailableError("message broker")
        self.offsets.append(record["offset"])
        self.reasons.append(str(error))
        self.attempts.append(attempts)


class Consumer:
    """Remembers what it consumed; raises what it is told to for a message's number."""

    def __init__(self, **raises: Exception) -> None:
        self.consumed: list[str] = []
        self.calls = 0
        self._raises = raises

    def one(self, message: Message) -> None:
        if error := self._raises.get(f"m{message.subject}"):
            raise error
        self.consumed.append(message.subject)

    def all(self, messages: Sequence[Message]) -> int:
        """Everything or, when one of them is refused, nothing."""
        self.calls += 1
        for each in messages:
            if error := self._raises.get(f"m{each.subject}"):
                raise error
        self.consumed += [each.subject for each in messages]
        return len(messages)


def failed(answer: dict[str, Any]) -> dict[str, list[int]]:
    """The reported offsets by partition."""
    reported: dict[str, list[int]] = {}
    for failure in answer["batchItemFailures"]:
        assert set(failure) == {"itemIdentifier"}
        item = failure["itemIdentifier"]
        reported.setdefault(item["partition"], []).append(item["offset"])
    return reported


def numbered(*numbers: int) -> list[Message]:
    return [message(number) for number in numbers]


@pytest.fixture(params=["one", "all"])
def handler_of(request: pytest.FixtureRequest) -> Callable[[Consumer, Sink], Any]:
    """Both kinds of consumers, which have to fail alike."""

    def build(consumer: Consumer, sink: Sink, **rules: Any) -> Any:
        if request.param == "one":
            return kafka_consumer(consumer.one, dead_letters=lambda: sink, **rules)
        return kafka_batch_consumer(consumer.all, dead_letters=lambda: sink, **rules)

    return build


def test_a_batch_without_failures_reports_none(handler_of: Callable[..., Any]) -> None:
    consumer = Consumer()
    event = kafka_event({f"{TOPIC}-0": numbered(1, 2), f"{TOPIC}-1": numbered(3)})

    answer = handler_of(consumer, Sink())(event, Context())

    assert answer == {"batchItemFailures": []}
    assert consumer.consumed == ["1", "2", "3"]


def test_a_partition_stops_at_its_first_failure_and_the_others_carry_on() -> None:
    consumer, sink = Consumer(m2=RuntimeError("down")), Sink()
    event = kafka_event({f"{TOPIC}-0": numbered(1, 2, 3), f"{TOPIC}-1": numbered(4, 5)}, first_offset=10)

    answer = kafka_consumer(consumer.one, dead_letters=lambda: sink)(event, Context())

    assert failed(answer) == {f"{TOPIC}-0": [11, 12]}
    assert consumer.consumed == ["1", "4", "5"]
    assert sink.offsets == []


def test_a_batch_that_fails_is_reported_whole_and_the_other_partition_is_not() -> None:
    consumer = Consumer(m2=DependencyUnavailableError("search engine"))
    event = kafka_event({f"{TOPIC}-0": numbered(1, 2, 3), f"{TOPIC}-1": numbered(4)}, first_offset=10)

    answer = kafka_batch_consumer(consumer.all, dead_letters=Sink)(event, Context())

    assert failed(answer) == {f"{TOPIC}-0": [10, 11, 12]}
    assert consumer.consumed == ["4"]


def test_a_batch_that_is_done_in_part_is_reported_from_there_on() -> None:
    event = kafka_event({f"{TOPIC}-0": numbered(1, 2, 3)}, first_offset=10)

    answer = kafka_batch_consumer(lambda messages: 2, dead_letters=Sink)(event, Context())

    assert failed(answer) == {f"{TOPIC}-0": [12]}


@pytest.mark.parametrize("poison", [b"not json", b"[]", b"{}", None])
def test_what_cannot_be_read_is_put_aside_and_the_rest_continues(
    handler_of: Callable[..., Any], poison: bytes | None
) -> None:
    consumer, sink = Consumer(), Sink()
    event = kafka_event({f"{TOPIC}-0": [message(1), poison, message(3)]}, first_offset=10)

    answer = handler_of(consumer, sink)(event, Context())

    assert answer == {"batchItemFailures": []}
    assert consumer.consumed == ["1", "3"]
    assert sink.offsets == [11]


def test_what_a_consumer_refuses_as_poison_is_put_aside_alone(handler_of: Callable[..., Any]) -> None:
    consumer, sink = Consumer(m3=PoisonMessageError("cannot be indexed")), Sink()
    event = kafka_event({f"{TOPIC}-0": numbered(1, 2, 3, 4)}, first_offset=10)

    answer = handler_of(consumer, sink)(event, Context())

    assert answer == {"batchItemFailures": []}
    assert sink.offsets == [12]
    assert sink.reasons == ["cannot be indexed"]
    assert set(consumer.consumed) == {"1", "2", "4"}


def test_poison_first_last_and_only(handler_of: Callable[..., Any]) -> None:
    sink = Sink()
    event = kafka_event({f"{TOPIC}-0": [b"x", message(1), b"x"], f"{TOPIC}-1": [b"x"]})

    answer = handler_of(Consumer(), sink)(event, Context())

    assert answer == {"batchItemFailures": []}
    assert sorted(sink.offsets) == [0, 0, 2]


def test_a_dead_letter_that_cannot_be_kept_stops_its_partition(handler_of: Callable[..., Any]) -> None:
    consumer = Consumer()
    event = kafka_event({f"{TOPIC}-0": [message(1), b"poison", message(3)]}, first_offset=10)

    answer = handler_of(consumer, Sink(full=True))(event, Context())

    assert failed(answer) == {f"{TOPIC}-0": [11, 12]}
    assert consumer.consumed == ["1"]


def test_a_failure_behind_poison_is_still_reported() -> None:
    consumer, sink = Consumer(m3=RuntimeError("down")), Sink()
    event = kafka_event({f"{TOPIC}-0": [message(1), b"poison", message(3), message(4)]}, first_offset=10)

    answer = kafka_consumer(consumer.one, dead_letters=lambda: sink)(event, Context())

    assert failed(answer) == {f"{TOPIC}-0": [12, 13]}
    assert sink.offsets == [11]


def test_a_dead_letter_says_how_often_it_was_tried_as_far_as_is_known(handler_of: Callable[..., Any]) -> None:
    """It could not be kept at first, and partitions do not count for each other."""
    sink = Sink(full=True)
    handler = handler_of(Consumer(), sink)
    event = kafka_event({f"{TOPIC}-0": [message(1), b"poison", b"poison"], f"{TOPIC}-1": [b"poison"]})
    for _ in range(2):
        handler(event, Context())
    sink.full = False

    handler(event, Context())

    assert sorted(zip(sink.offsets, sink.attempts, strict=True)) == [(0, 3), (1, 3), (2, 1)]


def test_data_that_are_not_of_their_types_schema_are_put_aside(handler_of: Callable[..., Any]) -> None:
    consumer, sink = Consumer(), Sink()
    nameless = {name: value for name, value in event_data(2).items() if name != "title"}
    event = kafka_event({f"{TOPIC}-0": [message(1), message(2, data=nameless), message(3)]})

    answer = handler_of(consumer, sink)(event, Context())

    assert answer == {"batchItemFailures": []}
    assert consumer.consumed == ["1", "3"]
    assert sink.reasons == ['events.created v1: data: "title" is a required property']


def test_without_the_check_they_would_have_been_consumed(handler_of: Callable[..., Any]) -> None:
    """The control of the one above; consumers that answer their senders check for themselves."""
    consumer = Consumer()
    event = kafka_event({f"{TOPIC}-0": [message(1, data={})]})

    handler_of(consumer, Sink(), checked=False)(event, Context())

    assert consumer.consumed == ["1"]


def test_a_version_that_is_not_known_here_is_put_aside(handler_of: Callable[..., Any]) -> None:
    consumer, sink = Consumer(), Sink()

    handler_of(consumer, sink)(kafka_event({f"{TOPIC}-0": [message(1, version=2)]}), Context())

    assert (consumer.consumed, sink.reasons) == ([], ["events.created has no version 2 here"])


def test_a_type_that_is_not_known_here_is_left_to_the_consumer(handler_of: Callable[..., Any]) -> None:
    consumer = Consumer()

    handler_of(consumer, Sink())(kafka_event({f"{TOPIC}-0": [message(1, "events.archived", data={})]}), Context())

    assert consumer.consumed == ["1"]


# Replays -----------------------------------------------------------------------------------------


def replayed(number: int, **extensions: Any) -> Message:
    return message(number, extensions={"replayid": "r1", **extensions})


def consumed(handler_of: Callable[..., Any], *messages: Message, **rules: Any) -> list[str]:
    consumer = Consumer()
    handler = handler_of(consumer, Sink(), group=lambda: "evp-tests", **rules)
    assert handler(kafka_event({f"{TOPIC}-0": messages}), Context()) == {"batchItemFailures": []}
    return consumer.consumed


def test_a_replay_is_consumed_like_any_message(handler_of: Callable[..., Any]) -> None:
    assert consumed(handler_of, message(1), replayed(2), message(3)) == ["1", "2", "3"]


def test_a_replay_for_one_group_is_left_out_by_the_others(handler_of: Callable[..., Any]) -> None:
    messages = [message(1), replayed(2, replayfor="evp-others"), replayed(3, replayfor="evp-tests"), message(4)]

    assert consumed(handler_of, *messages) == ["1", "3", "4"]


def test_who_notifies_leaves_replays_out_unless_they_say_otherwise(handler_of: Callable[..., Any]) -> None:
    messages = [replayed(1), message(2), replayed(3, replaynotify=True), replayed(4, replaynotify="true")]

    assert consumed(handler_of, *messages, notifies=True) == ["2", "3"]
    assert consumed(handler_of, *messages) == ["1", "2", "3", "4"], "the control"


def test_a_failure_behind_what_is_left_out_is_reported_at_its_own_place(handler_of: Callable[..., Any]) -> None:
    consumer = Consumer(m3=RuntimeError("down"))
    event = kafka_event({f"{TOPIC}-0": [replayed(1, replayfor="evp-others"), message(3)]}, first_offset=10)

    answer = handler_of(consumer, Sink(), group=lambda: "evp-tests")(event, Context())

    assert failed(answer) == {f"{TOPIC}-0": [11]}


def test_partitions_that_are_handed_over_together_advance_each_on_its_own() -> None:
    # Given a consumer of whole partitions to which a 3 is poison and a 5 cannot be done at present
    seen: list[list[list[str]]] = []

    def consume(batches: Sequence[Batch]) -> list[Outcome]:
        seen.append([[each.subject for each in batch.messages] for batch in batches])
        return [outcome([each.subject for each in batch.messages]) for batch in batches]

    def outcome(subjects: list[str]) -> Outcome:
        errors = {"3": PoisonMessageError("cannot be stored"), "5": RuntimeError("down")}
        stop = next((number for number, subject in enumerate(subjects) if subject in errors), None)
        return (len(subjects), None) if stop is None else (stop, errors[subjects[stop]])

    sink = Sink()
    event = kafka_event({"t-0": numbered(1, 2), "t-1": numbered(2, 3, 4), "t-2": numbered(4, 5, 6)}, first_offset=10)

    # When they come in one event
    answer = kafka_partitions_consumer(consume, dead_letters=lambda: sink)(event, Context())

    # Then one is done, one goes on behind its poison, and one stops
    assert failed(answer) == {"t-2": [11, 12]}
    assert sink.offsets == [11]
    assert seen == [[["1", "2"], ["2", "3", "4"], ["4", "5", "6"]], [["4"]]]


def test_a_consumer_of_partitions_that_fails_as_a_whole_has_done_nothing() -> None:
    def consume(_batches: Sequence[Batch]) -> list[Outcome]:
        raise DependencyUnavailableError("message bus")

    answer = kafka_partitions_consumer(consume, dead_letters=Sink)(
        kafka_event({"t-0": numbered(1), "t-1": numbered(2, 3)}, first_offset=10), Context()
    )

    assert failed(answer) == {"t-0": [10], "t-1": [10, 11]}


def test_a_sound_batch_is_handed_over_once() -> None:
    consumer = Consumer()

    kafka_batch_consumer(consumer.all, dead_letters=Sink)(kafka_event({f"{TOPIC}-0": numbered(1, 2, 3)}), Context())

    assert consumer.calls == 1


def test_a_consumer_that_carried_on_past_a_failure_would_be_seen() -> None:
    """The control: a processor that skips the failure, as Powertools' own does, breaks what is asserted above."""
    from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

    consumer = Consumer(m2=RuntimeError("down"))
    event = kafka_event({f"{TOPIC}-0": numbered(1, 2, 3)}, first_offset=10)

    answer = process_partial_response(
        event=event,
        record_handler=lambda record: consumer.one(Message.from_json(record.decoded_value)),
        processor=BatchProcessor(event_type=EventType.Kafka),
    )

    assert consumer.consumed == ["1", "3"]
    assert failed(dict(answer)) == {f"{TOPIC}-0": [11]}


def test_a_failure_is_logged_with_its_stack_and_its_place(logged: Callable[[], list[dict[str, Any]]]) -> None:
    consumer = Consumer(m2=RuntimeError("down"))
    event = kafka_event({f"{TOPIC}-3": numbered(1, 2)}, first_offset=10)

    kafka_consumer(consumer.one, dead_letters=Sink)(event, Context())

    (line,) = [line for line in logged() if line["level"] == "ERROR"]
    assert line["coordinates"] == f"{TOPIC}-3@11"
    assert "RuntimeError: down" in line["exception"]


def test_one_messages_keys_do_not_stand_on_the_next_ones_lines(logged: Callable[[], list[dict[str, Any]]]) -> None:
    from eventsplatform.observability import logger

    def consume(each: Message) -> None:
        logger.info(f"consuming {each.subject}")

    handler = kafka_consumer(consume, dead_letters=Sink)
    handler(kafka_event({f"{TOPIC}-0": [*numbered(1, 2), b"poison"]}), Context("first"))
    logger.info("between")

    lines = {line["message"]: line for line in logged()}
    assert lines["consuming 1"]["message_id"] == "event-1-1"
    assert lines["consuming 2"]["message_id"] == "event-2-1"
    assert lines["consuming 1"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert lines["consuming 1"]["function_request_id"] == "first"
    assert "message_id" not in lines["between"]


def test_batches_are_measured_by_topic(metrics: Callable[[], list[dict[str, Any]]]) -> None:
    consumer = Consumer(m2=RuntimeError("down"))

    kafka_consumer(consumer.one, dead_letters=Sink)(kafka_event({f"{TOPIC}-0": numbered(1, 2)}), Context())

    written = {name: line for line in metrics() for name in line if name.startswith("consumer_")}
    assert written["consumer_batch_size"]["consumer_batch_size"] == [2]
    assert written["consumer_lag_seconds"]["consumer_lag_seconds"][0] > 0
    assert written["consumer_failures_total"]["topic"] == TOPIC
