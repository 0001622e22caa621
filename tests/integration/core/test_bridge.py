from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest

from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.config import NatsSettings
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.messaging.bridge import DOMAINS, STREAM, NatsBridge
from eventsplatform.messaging.envelope import Message
from local.engines import Endpoints
from tests.support.engines import RunningEngines, engines_running
from tests.support.killing import engine_killed
from tests.support.lambda_events import message
from tests.support.polling import eventually
from tests.support.round_trips import counting_proxy

numbers = itertools.count(1_000_000)


@dataclass(frozen=True)
class Stored:
    subject: str
    headers: dict[str, str]
    message: Message


def bridge_to(url: str) -> NatsBridge:
    return NatsBridge(NatsConnection(NatsSettings(url, "")))


@pytest.fixture(scope="module")
def bridge(endpoints: Endpoints) -> NatsBridge:
    return bridge_to(endpoints.nats)


def stored(url: str, subject: str) -> list[Stored]:
    """What the stream holds on a subject, in its order."""

    async def read() -> list[Stored]:
        client = await nats.connect(url, connect_timeout=5)
        try:
            stream = client.jetstream()
            state = (await stream.stream_info(STREAM, subjects_filter=subject)).state
            subscription = await stream.subscribe(subject, stream=STREAM, ordered_consumer=True)
            found = []
            for _ in range(sum((state.subjects or {}).values())):
                got = await subscription.next_msg(timeout=5)
                found.append(Stored(got.subject, dict(got.headers or {}), Message.from_json(got.data)))
            return found
        finally:
            await client.close()

    return asyncio.run(read())


def new(type: str = "events.created", **changes: Any) -> Message:
    number = next(numbers)
    return message(number, type, id=f"event-{number}-1", **changes)


def test_a_message_is_stored_on_the_subject_of_its_type_and_entity(bridge: NatsBridge, endpoints: Endpoints) -> None:
    told = new("registrations.checked_in")

    assert bridge.publish([told]) == 1

    (found,) = stored(endpoints.nats, f"registrations.checked_in.{told.subject}")
    assert found.message == told
    assert found.headers["traceparent"] == told.traceparent
    assert found.headers["Content-Type"] == "application/cloudevents+json"


def test_the_stream_takes_every_domain_and_forgets_after_two_days(bridge: NatsBridge, endpoints: Endpoints) -> None:
    bridge.publish([new(f"{domain}.happened") for domain in DOMAINS])

    async def configuration() -> Any:
        client = await nats.connect(endpoints.nats, connect_timeout=5)
        try:
            return (await client.jetstream().stream_info(STREAM)).config
        finally:
            await client.close()

    config = asyncio.run(configuration())
    assert sorted(config.subjects) == sorted(f"{domain}.>" for domain in DOMAINS)
    assert (config.max_age, config.duplicate_window) == (48 * 3600, 120)


def test_a_batch_that_is_delivered_again_is_stored_once_and_in_order(bridge: NatsBridge, endpoints: Endpoints) -> None:
    subject = str(next(numbers))
    batch = [new("events.updated", subject=subject, sequence=version) for version in range(1, 6)]
    assert bridge.publish(batch[:3]) == 3

    assert bridge.publish(batch) == 5

    assert [found.message.sequence for found in stored(endpoints.nats, f"events.updated.{subject}")] == [1, 2, 3, 4, 5]


def test_what_came_in_over_nats_is_not_sent_back(bridge: NatsBridge, endpoints: Endpoints) -> None:
    returned, ours = new(via="kafka,nats", hops=2), new()

    assert bridge.publish([returned, ours]) == 2

    assert stored(endpoints.nats, f"events.created.{returned.subject}") == []
    assert len(stored(endpoints.nats, f"events.created.{ours.subject}")) == 1


@pytest.mark.parametrize(
    "poison",
    [
        {"type": "payments.captured"},
        {"type": "events.created.>"},
        {"subject": ""},
        {"subject": "a b"},
        {"subject": "*"},
        {"subject": "1\r\n"},
        {"data": {"text": "x" * 2_000_000}},
    ],
)
def test_what_nats_can_never_take_is_poison(bridge: NatsBridge, poison: dict[str, Any]) -> None:
    with pytest.raises(PoisonMessageError):
        bridge.publish([new(**poison)])


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(DependencyUnavailableError):
        bridge_to("nats://127.0.0.1:1").publish([new()])


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RunningEngines]:
    """A NATS that this test may kill."""
    with engines_running(tmp_path, only=frozenset({"nats"})) as running:
        yield running


def test_a_killed_server_stops_the_batch_and_takes_all_of_it_when_it_is_back(mortal: RunningEngines) -> None:
    bridge, url = bridge_to(mortal.endpoints.nats), mortal.endpoints.nats
    subject = str(next(numbers))
    batch = [new("events.updated", subject=subject, sequence=version) for version in range(1, 51)]
    assert bridge.publish(batch[:10]) == 10

    def publish_all() -> bool:
        """As the event source mapping does: what was not reported as done is delivered again."""
        try:
            return bridge.publish(batch) == len(batch)
        except DependencyUnavailableError:
            return False

    with engine_killed(mortal, "nats"):
        eventually(publish_all, within=60, what="the whole batch")

    sequences = [found.message.sequence for found in stored(url, f"events.updated.{subject}")]
    assert sequences == list(range(1, 51))


def test_a_connection_that_breaks_in_a_batch_leaves_the_rest_for_the_next_delivery(endpoints: Endpoints) -> None:
    subject = str(next(numbers))
    batch = [new("events.updated", subject=subject, sequence=version) for version in range(1, 51)]
    with counting_proxy(endpoints.nats) as (proxy, url):
        bridge = bridge_to(url)
        bridge.publish(batch[:1])
        proxy.drop_after(20)

        done = bridge.publish(batch)

        assert 0 < done < len(batch)
        assert bridge.publish(batch[done:]) == len(batch) - done

    sequences = [found.message.sequence for found in stored(endpoints.nats, f"events.updated.{subject}")]
    assert sequences == list(range(1, 51))
