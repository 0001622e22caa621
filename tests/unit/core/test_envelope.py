from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsplatform.errors import PoisonMessageError
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import shard_of, topic_of
from tests.support.lambda_events import event_data, message

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
something = text.filter(bool)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)
messages = st.builds(
    Message,
    id=something,
    source=something,
    type=something,
    subject=text,
    time=text,
    partitionkey=something,
    data=st.dictionaries(text, values, max_size=4),
    sequence=st.integers(0, 2**31),
    traceparent=text,
    via=text,
    hops=st.integers(0, 20),
    version=st.integers(1, 9),
)


@given(messages)
def test_a_message_reads_back_as_it_was_written(written: Message) -> None:
    assert Message.from_json(written.to_json()) == written


def test_the_envelope_is_cloudevents_in_structured_json() -> None:
    envelope = json.loads(message(42, via="nats", hops=2).to_json())

    assert envelope == {
        "specversion": "1.0",
        "id": "event-42-1",
        "source": "/events-platform/events",
        "type": "events.created",
        "subject": "42",
        "time": "2026-05-01T10:00:00Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:events-platform:message:events.created:v1",
        "partitionkey": "42",
        "sequence": 1,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "via": "nats",
        "hops": 2,
        "data": event_data(42),
    }


def test_headers_mirror_the_attributes() -> None:
    headers = message(42).to_headers()

    assert headers["ce_id"] == "event-42-1"
    assert headers["ce_type"] == "events.created"
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_traceparent"].startswith("00-")
    assert headers["content-type"] == "application/cloudevents+json"
    assert "ce_via" not in headers


def test_extensions_of_others_are_kept() -> None:
    envelope = {**json.loads(message().to_json()), "tenant": "acme"}

    read = Message.from_json(json.dumps(envelope))

    assert read.extensions == {"tenant": "acme"}
    assert json.loads(read.to_json())["tenant"] == "acme"


def test_the_schema_that_others_name_is_theirs() -> None:
    read = Message.from_json(changed(dataschema="https://schemas.example.org/created/3"))

    assert read.version == 1
    assert json.loads(read.to_json())["dataschema"] == "https://schemas.example.org/created/3"


def test_what_a_replay_says_of_itself_is_read_from_its_extensions() -> None:
    read = Message.from_json(changed(replayid="r1", replayfor="evp-fan-out", replaynotify=True))

    assert (read.replay_id, read.replayed_for, read.notifies_again) == ("r1", "evp-fan-out", True)
    assert (message().replay_id, message().replayed_for, message().notifies_again) == ("", "", False)


def without(name: str) -> bytes:
    envelope = json.loads(message().to_json())
    del envelope[name]
    return json.dumps(envelope).encode()


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(message().to_json()), **changes}).encode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (without("id"), "missing: id"),
        (without("source"), "missing: source"),
        (without("type"), "missing: type"),
        (without("specversion"), "missing: specversion"),
        (changed(id=""), "missing: id"),
        (changed(specversion="0.3"), "specversion='0.3'"),
        (changed(data=[1]), "data is not a JSON object"),
        (changed(data=[]), "data is not a JSON object"),
        (changed(data="text"), "data is not a JSON object"),
        (changed(sequence="first"), "whole numbers"),
        (changed(hops={}), "whole numbers"),
        (changed(sequence=[1]), "whole numbers"),
    ],
)
def test_what_is_no_message_of_ours_is_poison_and_says_why(value: bytes, reason: str) -> None:
    with pytest.raises(PoisonMessageError, match=reason):
        Message.from_json(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_poison(value: bytes) -> None:
    with suppress(PoisonMessageError):
        assert isinstance(Message.from_json(value), Message)


def test_optional_attributes_may_be_absent() -> None:
    read = Message.from_json(b'{"specversion":"1.0","id":"1","source":"/s","type":"events.created"}')

    assert (read.subject, read.data, read.sequence, read.hops, read.partitionkey) == ("", {}, 0, 0, "")


def test_data_that_are_not_as_expected_are_poison() -> None:
    sound = message(data={"id": 7})

    assert sound.read(lambda data: data["id"]) == 7
    for parse in (lambda data: data["missing"], lambda data: int("x"), lambda data: data["id"]["name"]):
        with pytest.raises(PoisonMessageError, match=r"events\.created"):
            sound.read(parse)


def test_a_fault_of_the_parser_itself_is_not_blamed_on_the_message() -> None:
    def broken(_data: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        message().read(broken)


def test_every_domain_has_its_topic() -> None:
    assert topic_of("events.created") == "evp.events.v1"
    with pytest.raises(KeyError):
        topic_of("payments.captured")


@given(something, st.integers(1, 64))
def test_a_key_has_one_shard_whatever_the_process(key: str, shards: int) -> None:
    assert 0 <= shard_of(key, shards) < shards
    assert shard_of(key, shards) == shard_of(key, shards)


def test_the_shard_of_a_key_does_not_change_with_a_release() -> None:
    assert [shard_of(str(key), 4) for key in range(8)] == [1, 3, 1, 3, 0, 2, 0, 2]
