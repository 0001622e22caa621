"""What can never be processed is kept whole, with all that is needed to find out why and to send it again."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from eventsplatform.adapters.kafka import DEAD_LETTER_BYTES, MESSAGE_BYTES, KafkaMessage, KafkaProducer
from eventsplatform.config import KafkaSettings
from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.messaging.dead_letters import DeadLetters
from eventsplatform.messaging.envelope import Message
from local.engines import Endpoints
from local.triggers import ensure_topics
from local.triggers.kafka.records import msk_event, record_from
from tests.support.kafka import everything_in
from tests.support.lambda_events import Context, message

NOW = datetime(2026, 5, 1, 10, tzinfo=UTC)
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"


@pytest.fixture
def group(endpoints: Endpoints) -> str:
    """A consumer group of the test's own, whose messages come on `<group>.v1`."""
    name = f"evp-{uuid4().hex[:8]}"
    ensure_topics(endpoints.kafka, [f"{name}.v1", f"{name}.dlt"])
    return name


def send(endpoints: Endpoints, group: str, *values: bytes | None, key: bytes | None = b"42") -> None:
    producer = KafkaProducer(KafkaSettings(endpoints.kafka, iam_authentication=False))
    headers = [("ce_id", "1"), ("trace", b"\x00\xff"), ("trace", "again")]
    assert all(producer.send([KafkaMessage(f"{group}.v1", key, value, headers) for value in values]))


def deliver(endpoints: Endpoints, group: str, consume: Callable[[Message], None] = lambda _: None) -> dict[str, object]:
    """All that the topic holds to a consumer, as Lambda would."""
    producer = KafkaProducer(KafkaSettings(endpoints.kafka, iam_authentication=False), message_bytes=DEAD_LETTER_BYTES)
    handler = kafka_consumer(consume, dead_letters=lambda: DeadLetters(producer, group, lambda: NOW))
    records = [record_from(each) for each in everything_in(endpoints.kafka, f"{group}.v1")]
    answer: dict[str, object] = handler(json.loads(msk_event(records, endpoints.kafka)), Context())
    return answer


def told_of(headers: list[tuple[str, bytes | None]] | None) -> dict[str, str]:
    return {name: (content or b"").decode() for name, content in headers or [] if name.startswith("dlt_")}


def test_a_dead_letter_is_the_record_itself_and_says_what_was_wrong(endpoints: Endpoints, group: str) -> None:
    send(endpoints, group, b"\xff not JSON")

    assert deliver(endpoints, group) == {"batchItemFailures": []}

    (origin,) = everything_in(endpoints.kafka, f"{group}.v1")
    (letter,) = everything_in(endpoints.kafka, f"{group}.dlt")
    assert (letter.key(), letter.value()) == (b"42", b"\xff not JSON")
    headers = letter.headers() or []
    assert headers[:3] == [("ce_id", b"1"), ("trace", b"\x00\xff"), ("trace", b"again")]
    assert told_of(headers) == {
        "dlt_origin": f"{group}.v1-{origin.partition()}@{origin.offset()}",
        "dlt_error": "PoisonMessageError",
        "dlt_reason": told_of(headers)["dlt_reason"],
        "dlt_attempts": "1",
        "dlt_sent_at": str(origin.timestamp()[1]),
        "dlt_put_aside_at": "2026-05-01T10:00:00Z",
    }
    assert told_of(headers)["dlt_reason"].startswith("not JSON")


def test_null_stays_null(endpoints: Endpoints, group: str) -> None:
    send(endpoints, group, None, key=None)

    deliver(endpoints, group)

    (letter,) = everything_in(endpoints.kafka, f"{group}.dlt")
    assert (letter.key(), letter.value()) == (None, None)


def test_the_largest_message_that_is_sent_can_be_put_aside(endpoints: Endpoints, group: str) -> None:
    """It grows by what is said about it: under the same limit it could not be kept, and its partition would stop."""
    overhead = 100
    send(endpoints, group, b"x" * (MESSAGE_BYTES - overhead))

    assert deliver(endpoints, group) == {"batchItemFailures": []}

    (letter,) = everything_in(endpoints.kafka, f"{group}.dlt")
    assert len(letter.value() or b"") == MESSAGE_BYTES - overhead


def test_a_token_is_not_kept(endpoints: Endpoints, group: str) -> None:
    send(endpoints, group, json.dumps({"data": {"token": TOKEN}, "id": "1"}).encode())

    deliver(endpoints, group)

    (letter,) = everything_in(endpoints.kafka, f"{group}.dlt")
    assert json.loads(letter.value() or b"") == {"data": {"token": "<redacted>"}, "id": "1"}
    assert told_of(letter.headers())["dlt_redacted"] == "true"


def test_poison_holds_nothing_up_and_an_infrastructure_failure_holds_up_its_partition(
    endpoints: Endpoints, group: str
) -> None:
    """Once the failure has gone, everything has been consumed in order, and the poison alone is put aside."""
    send(endpoints, group, *[message(number).to_json() for number in (1, 2)], b"poison", message(4).to_json())
    consumed: list[str] = []
    down = {"2"}

    def consume(each: Message) -> None:
        if each.subject in down:
            raise DependencyUnavailableError("search engine")
        if each.subject == "1" and "1" in consumed:
            return
        consumed.append(each.subject)

    stopped = deliver(endpoints, group, consume)
    assert len(stopped["batchItemFailures"]) == 3  # type: ignore[arg-type]
    assert consumed == ["1"]
    assert everything_in(endpoints.kafka, f"{group}.dlt") == []

    down.clear()
    assert deliver(endpoints, group, consume) == {"batchItemFailures": []}

    assert consumed == ["1", "2", "4"]
    assert [letter.value() for letter in everything_in(endpoints.kafka, f"{group}.dlt")] == [b"poison"]


def test_a_dead_letter_that_kafka_does_not_take_raises(endpoints: Endpoints, group: str) -> None:
    """Its partition then stops there, for it would be lost."""
    producer = KafkaProducer(KafkaSettings(endpoints.kafka, iam_authentication=False))
    too_large = {
        "topic": group,
        "partition": 0,
        "offset": 1,
        "timestamp": 0,
        "value": b64encode(b"x" * MESSAGE_BYTES).decode(),
    }

    with pytest.raises(DependencyUnavailableError):
        DeadLetters(producer, group).put(too_large, PoisonMessageError("poison"), attempts=1)
