"""What JetStream streams hold, and messages that come in over NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import nats
from nats.aio.client import Client

from eventsplatform.messaging.envelope import Message

T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    subject: str
    headers: dict[str, str]
    data: bytes

    @property
    def message(self) -> Message:
        return Message.from_json(self.data)


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Client]:
    client = await nats.connect(url, connect_timeout=5, allow_reconnect=False, **options)
    try:
        yield client
    finally:
        await client.close()


def over_nats(url: str, do: Callable[[Client], Awaitable[T]], **options: Any) -> T:
    """What `do` returns, on a connection of its own."""

    async def run() -> T:
        async with connected(url, **options) as client:
            return await do(client)

    return asyncio.run(run())


def stored(url: str, stream: str, subject: str) -> list[Stored]:
    """What the stream holds on a subject, in its order."""

    async def read(client: Client) -> list[Stored]:
        jetstream = client.jetstream()
        state = (await jetstream.stream_info(stream, subjects_filter=subject)).state
        subscription = await jetstream.subscribe(subject, stream=stream, ordered_consumer=True)
        found = []
        for _ in range(sum((state.subjects or {}).values())):
            got = await subscription.next_msg(timeout=5)
            found.append(Stored(got.subject, dict(got.headers or {}), got.data))
        return found

    return over_nats(url, read)


def publish(url: str, messages: Sequence[tuple[str, bytes, Mapping[str, str]]]) -> None:
    """Have them stored one after another."""

    async def send(client: Client) -> None:
        jetstream = client.jetstream()
        pending = [
            await jetstream.publish_async(subject, data, headers=dict(headers)) for subject, data, headers in messages
        ]
        await asyncio.gather(*pending)

    over_nats(url, send)
