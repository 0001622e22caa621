"""Storing many messages at once, in their order even when one in the middle fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from eventsplatform.adapters.jetstream import BATCH, OrderedPublisher, Publication
from eventsplatform.config import ConfigurationError
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.messaging.routes import Stream
from eventsplatform.messaging.streams import ensure_stream
from eventsplatform.messaging.subjects import Pattern
from local.engines import Endpoints
from tests.support.jetstream import over_nats, stored

LARGE = "x" * 2_000


@pytest.fixture
def name() -> str:
    return f"ordered{uuid4().hex[:8]}"


def publications(name: str, texts: Sequence[str], **headers: str) -> list[Publication]:
    return [
        Publication(f"{name}.{number % 3}", text.encode(), {"Nats-Msg-Id": f"{name}-{number}", **headers})
        for number, text in enumerate(texts)
    ]


@asynccontextmanager
async def bounded(client: Client, name: str) -> AsyncIterator[StreamConfig]:
    """A stream that takes nothing large, until it is told otherwise: a failure that passes."""
    config = StreamConfig(name=name, subjects=[f"{name}.>"], duplicate_window=120, allow_batched=True)
    await client.jetstream().add_stream(config.evolve(max_msg_size=1_000))
    yield config


def texts(url: str, name: str) -> list[str]:
    return [each.data.decode()[:3] for each in stored(url, name, f"{name}.>")]


def test_what_stands_behind_a_message_that_failed_is_not_stored_before_it(endpoints: Endpoints, name: str) -> None:
    batch = publications(name, ["000", "001", f"002{LARGE}", "003", "004"])

    async def store(client: Client) -> None:
        publisher = await OrderedPublisher.open(client)
        async with bounded(client, name) as config:
            first = await publisher.store(batch)
            assert (first.count, type(first.error)) == (2, PoisonMessageError)
            await client.jetstream().update_stream(config.evolve(max_msg_size=10_000))
            rest = await publisher.store(batch[2:])
            assert (rest.count, rest.error) == (3, None)

    over_nats(endpoints.nats, store)

    assert texts(endpoints.nats, name) == ["000", "001", "002", "003", "004"]


def test_acknowledged_one_by_one_it_would_stand_behind_them(endpoints: Endpoints, name: str) -> None:
    """The control: JetStream's own publishing, with as many under way, tried again where it failed."""
    batch = publications(name, ["000", "001", f"002{LARGE}", "003", "004"])

    async def store(client: Client) -> None:
        jetstream = client.jetstream()
        async with bounded(client, name) as config:
            for _ in range(2):
                under_way = [
                    await jetstream.publish_async(each.subject, each.payload, headers=dict(each.headers))
                    for each in batch
                ]
                # Of a refusal, nats-py tells the log and not who waits for it.
                await asyncio.wait(under_way, timeout=1)
                await jetstream.update_stream(config.evolve(max_msg_size=10_000))

    over_nats(endpoints.nats, store)

    assert texts(endpoints.nats, name) == ["000", "001", "003", "004", "002"]


def test_a_batch_that_is_stored_again_adds_nothing_and_says_so(endpoints: Endpoints, name: str) -> None:
    batch = publications(name, [f"{number:03}" for number in range(BATCH)])

    async def store(client: Client) -> None:
        publisher = await OrderedPublisher.open(client)
        async with bounded(client, name):
            first = await publisher.store(batch[:10])
            assert (first.count, first.error, first.are_duplicates) == (10, None, False)
            again = await publisher.store(batch[:10])
            assert (again.count, again.error, again.are_duplicates) == (10, None, True)
            mixed = await publisher.store(batch)
            assert (mixed.count, mixed.error, mixed.are_duplicates) == (BATCH, None, False)
            single = await publisher.store(batch[7:8])
            assert (single.count, single.are_duplicates) == (1, True)

    over_nats(endpoints.nats, store)

    assert texts(endpoints.nats, name) == [f"{number:03}" for number in range(BATCH)]


def test_batches_of_several_at_the_same_time_are_told_apart(endpoints: Endpoints, name: str) -> None:
    batches = [
        [
            Publication(f"{name}.{number % 3}", f"{writer}{number:02}".encode(), {"Nats-Msg-Id": f"{writer}-{number}"})
            for number in range(50)
        ]
        for writer in range(4)
    ]

    async def store(client: Client) -> None:
        publishers = [await OrderedPublisher.open(client) for _ in range(2)]
        async with bounded(client, name):
            outcomes = await asyncio.gather(
                *(publishers[writer % 2].store(batch) for writer, batch in enumerate(batches))
            )
        assert [(each.count, each.error) for each in outcomes] == [(50, None)] * 4

    over_nats(endpoints.nats, store)

    found = texts(endpoints.nats, name)
    for writer in range(4):
        assert [each for each in found if each[0] == str(writer)] == [f"{writer}{number:02}" for number in range(50)]


def test_a_header_s_value_ends_no_line(endpoints: Endpoints, name: str) -> None:
    async def store(client: Client) -> None:
        publisher = await OrderedPublisher.open(client)
        async with bounded(client, name):
            assert (await publisher.store(publications(name, ["a"], Trace="x\r\nEvil: 1\n\r\n", Other="ü"))).count == 1

    over_nats(endpoints.nats, store)

    (found,) = stored(endpoints.nats, name, f"{name}.>")
    assert found.data == b"a"
    assert "Evil" not in found.headers
    assert found.headers["Other"] == "ü"


def test_without_a_stream_nothing_is_stored(endpoints: Endpoints, name: str) -> None:
    async def store(client: Client) -> None:
        publisher = await OrderedPublisher.open(client)
        outcome = await publisher.store(publications(name, ["a", "b"]))
        assert (outcome.count, type(outcome.error)) == (0, DependencyUnavailableError)

    over_nats(endpoints.nats, store)


# Making streams ---------------------------------------------------------------------------------------------


def wanted(name: str, *subjects: str) -> Stream:
    patterns = tuple(Pattern.parse(f"{name}.{subject}") for subject in subjects)
    return Stream(name, patterns, max_age_seconds=3600, duplicate_window_seconds=60, max_message_bytes=1_000)


def test_a_stream_follows_the_routes_and_keeps_what_operators_have_set(endpoints: Endpoints, name: str) -> None:
    async def change(client: Client) -> StreamConfig:
        jetstream = client.jetstream()
        created = await ensure_stream(jetstream, wanted(name, "a"))
        config = (await jetstream.stream_info(name)).config
        await jetstream.update_stream(config.evolve(description="kept", max_msgs=77))
        assert await ensure_stream(jetstream, wanted(name, "a", "b.>")) == created
        return (await jetstream.stream_info(name)).config

    config = over_nats(endpoints.nats, change)

    assert sorted(config.subjects or []) == [f"{name}.a", f"{name}.b.>"]
    assert (config.description, config.max_msgs) == ("kept", 77)


def test_a_server_that_stores_no_batches_in_order_is_refused(
    endpoints: Endpoints, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one before 2.14 does, the setting is left out."""
    evolve = StreamConfig.evolve
    monkeypatch.setattr(
        StreamConfig, "evolve", lambda self, **changes: evolve(self, **{**changes, "allow_batched": None})
    )

    with pytest.raises(ConfigurationError, match=r"NATS 2\.14 or later"):
        over_nats(endpoints.nats, lambda client: ensure_stream(client.jetstream(), wanted(name, "a")))
