"""Kafka → NATS: in order per partition, once each, whatever fails in between."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from eventsplatform.adapters.jetstream import BATCH
from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.config import NatsSettings
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.messaging.bridge_to_nats import BridgeToNats
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import TOPICS, Batch, Outcome, topic_of
from eventsplatform.messaging.routes import Routes
from eventsplatform.messaging.routes_file import platform_routes
from local.engines import Endpoints
from tests.support.engines import RunningEngines, engines_running
from tests.support.jetstream import Stored, over_nats, stored
from tests.support.killing import engine_killed
from tests.support.lambda_events import message
from tests.support.polling import eventually
from tests.support.round_trips import counting_proxy

STREAM = "PLATFORM"
numbers = itertools.count(1_000_000)


def bridge_to(url: str, routes: Routes | None = None) -> BridgeToNats:
    return BridgeToNats(routes or platform_routes(), NatsConnection(NatsSettings(url, "")))


@pytest.fixture(scope="module")
def bridge(endpoints: Endpoints) -> BridgeToNats:
    return bridge_to(endpoints.nats)


def new(type: str = "events.created", **changes: Any) -> Message:
    number = next(numbers)
    return message(number, type, **{"id": f"event-{number}-1", **changes})


def versions(count: int, **changes: Any) -> list[Message]:
    """Changes of one entity, in their order."""
    number = next(numbers)
    told = (("events.updated", "events.published")[version % 2] for version in range(count))
    return [
        message(number, type, id=f"event-{number}-{version}", sequence=version, **changes)
        for version, type in enumerate(told, 1)
    ]


def forward(bridge: BridgeToNats, *messages: Message) -> Outcome:
    (outcome,) = bridge.forward([Batch(topic_of(messages[0].type), messages)])
    return outcome


def told_about(url: str, subject: str) -> list[Stored]:
    return stored(url, STREAM, f"*.*.{subject}")


def sequences(url: str, subject: str) -> list[int]:
    return [each.message.sequence for each in told_about(url, subject)]


def test_a_message_is_stored_on_the_subject_of_its_type_and_entity(bridge: BridgeToNats, endpoints: Endpoints) -> None:
    told = new("registrations.checked_in")

    assert forward(bridge, told) == (1, None)

    (found,) = told_about(endpoints.nats, told.subject)
    assert found.subject == f"registrations.checked_in.{told.subject}"
    assert found.message == replace(told, via="evp", hops=1)
    assert found.headers["traceparent"] == told.traceparent
    assert found.headers["Content-Type"] == "application/cloudevents+json"


def test_what_stands_in_an_entity_s_name_adds_no_tokens_to_the_subject(
    bridge: BridgeToNats, endpoints: Endpoints
) -> None:
    number = next(numbers)

    assert forward(bridge, new(subject=f"{number}.*.> ü\r\n")) == (1, None)

    (found,) = stored(endpoints.nats, STREAM, f"events.created.{number}%2E%2A%2E%3E%20%C3%BC%0D%0A")
    assert found.message.subject == f"{number}.*.> ü\r\n"


def test_the_stream_takes_every_domain_and_forgets_after_two_days(bridge: BridgeToNats, endpoints: Endpoints) -> None:
    bridge.forward([Batch(topic, [new(f"{domain}.happened")]) for domain, topic in TOPICS.items()])

    async def configuration(client: Client) -> Any:
        return (await client.jetstream().stream_info(STREAM)).config

    config = over_nats(endpoints.nats, configuration)
    assert sorted(config.subjects) == sorted(f"{domain}.>" for domain in TOPICS)
    assert (config.max_age, config.duplicate_window) == (48 * 3600, 3600)


def test_a_batch_that_is_delivered_again_is_stored_once_and_in_order(
    bridge: BridgeToNats, endpoints: Endpoints
) -> None:
    batch = versions(600)
    assert forward(bridge, *batch[:420]) == (420, None)

    assert forward(bridge, *batch) == (600, None)

    assert sequences(endpoints.nats, batch[0].subject) == list(range(1, 601))


def test_a_replay_is_stored_although_the_message_was(bridge: BridgeToNats, endpoints: Endpoints) -> None:
    told = new()
    replays = [replace(told, extensions={"replayid": name}) for name in ("r1", "r1", "r2")]

    assert forward(bridge, told, *replays) == (4, None)

    kept = told_about(endpoints.nats, told.subject)
    assert [each.message.replay_id for each in kept] == ["", "r1", "r2"]


def test_partitions_are_stored_side_by_side_and_each_in_its_order(bridge: BridgeToNats, endpoints: Endpoints) -> None:
    partitions = [versions(120) for _ in range(4)]

    outcomes = bridge.forward([Batch(TOPICS["events"], messages) for messages in partitions])

    assert outcomes == [(120, None)] * 4
    for messages in partitions:
        assert sequences(endpoints.nats, messages[0].subject) == list(range(1, 121))


def test_what_crossed_here_before_is_left_out_and_counted(
    bridge: BridgeToNats, endpoints: Endpoints, metrics: Callable[[], list[dict[str, Any]]]
) -> None:
    returned, far_travelled, ours = (
        new(via="partner,evp", hops=2),
        new(via="a,b,c,d,e", hops=5),
        new(via="evpx", hops=4),
    )

    assert forward(bridge, returned, far_travelled, ours) == (3, None)

    assert told_about(endpoints.nats, returned.subject) == []
    assert told_about(endpoints.nats, far_travelled.subject) == []
    assert len(told_about(endpoints.nats, ours.subject)) == 1
    counted = {name: line[name] for line in metrics() for name in line if name.startswith("bridge_")}
    assert (counted["bridge_loops_total"], counted["bridge_messages_total"]) == ([2], [1])


def test_what_is_dropped_and_how_long_it_took_is_counted(
    bridge: BridgeToNats, metrics: Callable[[], list[dict[str, Any]]]
) -> None:
    batch = versions(BATCH + 5)
    forward(bridge, *batch[:BATCH])
    metrics()

    forward(bridge, *batch)

    lines = {name: line for line in metrics() for name in line if name.startswith("bridge_")}
    assert lines["bridge_duplicates_total"]["bridge_duplicates_total"] == [BATCH]
    assert lines["bridge_messages_total"]["bridge_messages_total"] == [5]
    assert len(lines["bridge_latency_seconds"]["bridge_latency_seconds"]) == 5
    assert {line["route"] for line in lines.values()} == {"platform"}


@pytest.mark.parametrize(
    "poison",
    [
        {"type": "payments.captured"},
        {"type": "events..created"},
        {"subject": ""},
        {"subject": "\ud800"},
        {"data": {"text": "x" * 2_000_000}},
    ],
)
def test_what_nats_can_never_take_is_poison_and_what_stands_before_it_is_stored(
    bridge: BridgeToNats, endpoints: Endpoints, poison: dict[str, Any]
) -> None:
    before, behind = new(), new()

    (outcome,) = bridge.forward([Batch(TOPICS["events"], [before, new(**poison), behind])])

    done, error = outcome
    assert done == 1
    assert isinstance(error, PoisonMessageError)
    assert len(told_about(endpoints.nats, before.subject)) == 1
    assert told_about(endpoints.nats, behind.subject) == []


def test_a_message_that_the_stream_refuses_alone_is_poison_too(endpoints: Endpoints) -> None:
    """What an operator has bounded below what the bridge knows."""
    bridge, sound = bridge_to(endpoints.nats), new()
    forward(bridge, new())

    async def bound(client: Client, size: int) -> None:
        jetstream = client.jetstream()
        config = (await jetstream.stream_info(STREAM)).config
        await jetstream.update_stream(config.evolve(max_msg_size=size))

    over_nats(endpoints.nats, lambda client: bound(client, 4_000))
    try:
        done, error = forward(bridge, new(), sound, new(data={"text": "x" * 5_000}), new())
    finally:
        over_nats(endpoints.nats, lambda client: bound(client, 960 * 1024))

    assert (done, type(error)) == (2, PoisonMessageError)
    assert len(told_about(endpoints.nats, sound.subject)) == 1


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(DependencyUnavailableError):
        forward(bridge_to("nats://127.0.0.1:1"), new())


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RunningEngines]:
    """A NATS that this test may kill."""
    with engines_running(tmp_path, only=frozenset({"nats"})) as running:
        yield running


def test_a_killed_server_stops_the_batch_and_takes_all_of_it_when_it_is_back(mortal: RunningEngines) -> None:
    bridge, url = bridge_to(mortal.endpoints.nats), mortal.endpoints.nats
    batch = versions(900)
    assert forward(bridge, *batch[:10]) == (10, None)

    def forward_all() -> bool:
        """As the event source mapping does: what was not reported as done is delivered again."""
        try:
            return forward(bridge, *batch) == (len(batch), None)
        except DependencyUnavailableError:
            return False

    with engine_killed(mortal, "nats"):
        eventually(forward_all, within=60, what="the whole batch")

    assert sequences(url, batch[0].subject) == list(range(1, 901))


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_connection_that_breaks_in_a_batch_leaves_the_rest_for_the_next_delivery(
    endpoints: Endpoints, after: int
) -> None:
    batch = versions(900)
    with counting_proxy(endpoints.nats) as (proxy, url):
        bridge = bridge_to(url)
        forward(bridge, new())
        proxy.drop_after(after)

        done, error = forward(bridge, *batch)

        assert done < len(batch)
        assert isinstance(error, DependencyUnavailableError)
        assert forward(bridge, *batch[done:]) == (len(batch) - done, None)

    assert sequences(endpoints.nats, batch[0].subject) == list(range(1, 901))
