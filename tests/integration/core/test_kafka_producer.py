from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from confluent_kafka import Producer

from eventsplatform.adapters import breakers
from eventsplatform.adapters.breakers import breaker
from eventsplatform.adapters.kafka import KafkaMessage, KafkaProducer
from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.config import KafkaSettings
from eventsplatform.errors import DependencyUnavailableError
from local.triggers import ensure_topics
from tests.support.engines import RunningEngines, engines_running
from tests.support.kafka import everything_in
from tests.support.polling import eventually

TOPIC = "letters"
TOO_LARGE = 2_000_000


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngines]:
    """A broker of this module's own, for it is killed."""
    with engines_running(tmp_path_factory.mktemp("kafka"), only=frozenset({"kafka"})) as running:
        ensure_topics(running.endpoints.kafka, [TOPIC])
        yield running


@pytest.fixture
def producer(kafka: RunningEngines) -> KafkaProducer:
    return KafkaProducer(KafkaSettings(kafka.endpoints.kafka, iam_authentication=False))


def letters(*texts: str) -> list[KafkaMessage]:
    return [KafkaMessage(TOPIC, key="1", value=text.encode(), headers={"language": "en"}) for text in texts]


def test_a_message_that_no_broker_takes_does_not_hold_up_the_others(producer: KafkaProducer) -> None:
    assert producer.send(letters("first", "x" * TOO_LARGE, "last")) == [True, False, True]


def test_a_broker_that_comes_back_without_its_memory_gets_the_next_messages(
    kafka: RunningEngines, producer: KafkaProducer
) -> None:
    # Given a producer that has delivered, and beside it librdkafka's own, set up the same way
    plain = Producer(
        {"bootstrap.servers": kafka.endpoints.kafka, "enable.idempotence": True, "delivery.timeout.ms": 4000}
    )
    plain_reports: list[bool] = []
    assert producer.send(letters("before")) == [True]
    plain.produce(TOPIC, b"before", on_delivery=lambda error, _: plain_reports.append(error is None))
    assert plain.flush(10) == 0

    # When the broker is killed and comes back, knowing nobody
    restarts = kafka.statuses()["kafka"].restarts
    kafka.kill("kafka")
    eventually(lambda: kafka.statuses()["kafka"].restarts > restarts, what="the broker's return")
    ensure_topics(kafka.endpoints.kafka, [TOPIC])

    # Then ours delivers in the same call, and the plain one never does
    assert producer.send(letters("one", "two"), timeout_seconds=5) == [True, True]
    plain.produce(TOPIC, b"after", on_delivery=lambda error, _: plain_reports.append(error is None))
    plain.flush(6)
    assert plain_reports == [True, False]


def test_a_broker_that_dies_while_it_is_sent_to_gets_the_message_when_it_is_back(
    kafka: RunningEngines, producer: KafkaProducer
) -> None:
    assert producer.send(letters("before")) == [True]

    kafka.kill("kafka")

    assert producer.send(letters("meanwhile")) == [True]


def test_what_was_started_is_sent_while_the_caller_does_other_things(
    kafka: RunningEngines, producer: KafkaProducer
) -> None:
    assert producer.send(letters("before")) == [True]

    finish = producer.start(letters("meanwhile"))

    eventually(
        lambda: everything_in(kafka.endpoints.kafka, TOPIC)[-1].value() == b"meanwhile", what="the started message"
    )
    assert finish() == [True]


def test_what_was_started_with_a_broker_that_dies_is_sent_again(kafka: RunningEngines, producer: KafkaProducer) -> None:
    assert producer.send(letters("before")) == [True]
    kafka.kill("kafka")

    finish = producer.start(letters("one", "two"))

    assert finish() == [True, True]


def test_while_kafka_s_breaker_is_open_nothing_is_started(kafka: RunningEngines, producer: KafkaProducer) -> None:
    assert producer.send(letters("before")) == [True]

    for _ in range(CALL_POLICIES["kafka"].opens_after):
        with suppress(DependencyUnavailableError), breaker("kafka"):
            raise DependencyUnavailableError("message broker")
    assert producer.start(letters("refused"))() == [False]

    breakers.forget()
    assert producer.send(letters("after")) == [True]
    assert [record.value() for record in everything_in(kafka.endpoints.kafka, TOPIC)][-2:] == [b"before", b"after"]


def test_without_a_broker_nothing_is_acknowledged_and_the_call_ends() -> None:
    producer = KafkaProducer(KafkaSettings("127.0.0.1:9", iam_authentication=False))

    assert producer.send(letters("lost"), timeout_seconds=0.5) == [False]
