"""A WebSocket client for the platform that is running here: sends frames and prints what comes."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import websockets

from local.commands.endpoints import STATE, running_endpoints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("frames", nargs="+", metavar="FRAME", help='such as {"action":"ping"}')
    parser.add_argument("--token", default=os.environ.get("TOKEN"), help="an access token; default: $TOKEN")
    parser.add_argument("--count", type=int, help="end after this many frames have come; default: Ctrl-C")
    parser.add_argument("--state", type=Path, default=STATE, help="the platform's state directory")


def run(options: argparse.Namespace) -> int:
    if not options.token:
        print("Which access token? Give --token or set TOKEN; log in at /v1/auth/login.", file=sys.stderr)
        return 2
    endpoints = running_endpoints(options.state)
    if endpoints is None:
        return 2
    try:
        asyncio.run(_talk(endpoints["websocket"], options))
    except websockets.InvalidStatus as error:
        print(f"The connection was refused: {error}. Is the access token still valid?", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _talk(url: str, options: argparse.Namespace) -> None:
    headers = {"Authorization": f"Bearer {options.token}"}
    async with websockets.connect(url, additional_headers=headers) as socket:
        for frame in options.frames:
            await socket.send(frame)
        received = 0
        async for message in socket:
            print(message, flush=True)
            received += 1
            if received == options.count:
                return
