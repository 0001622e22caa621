"""The JetStream streams of the routes: there before anyone publishes or listens."""

from __future__ import annotations

import nats

from eventsplatform.messaging.routes_file import platform_routes
from eventsplatform.messaging.streams import ensure_stream


async def ensure_streams(url: str) -> None:
    """Make those that are not there yet. Raises DependencyUnavailableError or ConfigurationError."""
    client = await nats.connect(url)
    try:
        for stream in platform_routes().streams.values():
            await ensure_stream(client.jetstream(), stream)
    finally:
        await client.close()
