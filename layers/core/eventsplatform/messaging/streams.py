"""The JetStream streams of `routes.yaml`, made or brought up to date by whoever needs one first."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from eventsplatform.config import ConfigurationError
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.messaging.routes import Stream

if TYPE_CHECKING:
    from nats.js import JetStreamContext


async def ensure_stream(jetstream: JetStreamContext, stream: Stream, *, first_sequence: int = 1) -> datetime:
    """When the stream was created. One that is not there begins with `first_sequence`.

    Raises DependencyUnavailableError, and ConfigurationError for a server that stores no batches in order.
    """
    from nats.errors import Error as NatsError
    from nats.js.api import RetentionPolicy, StreamConfig
    from nats.js.errors import NotFoundError

    try:
        try:
            info = await jetstream.stream_info(stream.name)
        except NotFoundError:
            # Only a stream with limits remembers the ids of messages that were consumed already.
            limits = StreamConfig(name=stream.name, retention=RetentionPolicy.LIMITS, first_seq=first_sequence)
            info = await jetstream.add_stream(limits.evolve(**_settings(stream)))
        else:
            if any(getattr(info.config, name) != value for name, value in _settings(stream).items()):
                info = await jetstream.update_stream(info.config.evolve(**_settings(stream)))
    except (NatsError, OSError, TimeoutError) as error:
        raise DependencyUnavailableError("message bus") from error
    if not info.config.allow_batched or info.created is None:
        raise ConfigurationError("NATS 2.14 or later is needed: this server stores no batches in order (ADR-50)")
    return info.created


def _settings(stream: Stream) -> dict[str, Any]:
    """What the platform needs. Anything else (replicas, placement) is the operator's, and stays."""
    return {
        "subjects": [pattern.subject for pattern in stream.subjects],
        "max_age": stream.max_age_seconds,
        "duplicate_window": stream.duplicate_window_seconds,
        "max_msg_size": stream.max_message_bytes,
        "allow_batched": True,
    }
