"""A NATS client for the platform that is running here: prints the messages of a subject, the stored ones first."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import nats
from nats.js.api import DeliverPolicy
from nats.js.errors import NotFoundError

from local.commands.endpoints import STATE, running_endpoints

STREAM = "PLATFORM"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", help="such as 'registrations.>' or 'events.published.42'")
    parser.add_argument("--new", action="store_true", help="leave out what is stored already")
    parser.add_argument("--count", type=int, help="end after this many messages; default: Ctrl-C")
    parser.add_argument("--state", type=Path, default=STATE, help="the platform's state directory")


def run(options: argparse.Namespace) -> int:
    endpoints = running_endpoints(options.state)
    if endpoints is None:
        return 2
    try:
        asyncio.run(_listen(endpoints["nats"], options))
    except KeyboardInterrupt:
        return 130
    return 0


async def _listen(url: str, options: argparse.Namespace) -> None:
    connection = await nats.connect(url)
    stream = connection.jetstream()
    while True:
        try:
            await stream.stream_info(STREAM)
            break
        except NotFoundError:
            # The bridge makes the stream with its first message.
            await asyncio.sleep(0.2)
    policy = DeliverPolicy.NEW if options.new else DeliverPolicy.ALL
    subscription = await stream.subscribe(options.subject, stream=STREAM, ordered_consumer=True, deliver_policy=policy)
    received = 0
    async for message in subscription.messages:
        print(message.subject, message.data.decode(), flush=True)
        received += 1
        if received == options.count:
            break
    await connection.close()
