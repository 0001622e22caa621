"""Kafka → NATS: every platform message, on the subject `<type>.<entity id>` of the stream `PLATFORM`.

JetStream drops a message whose `Nats-Msg-Id` it has stored already, so redelivered batches are not seen
twice. The id names the route as well, for deduplication is per stream and not per subject.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.messaging.envelope import CONTENT_TYPE, Message
from eventsplatform.observability import emit_metric, logger

if TYPE_CHECKING:
    from nats.js import JetStreamContext

STREAM = "PLATFORM"
DOMAINS = ("users", "events", "registrations", "curation", "analytics", "recommendations")
SUBJECTS = tuple(f"{domain}.>" for domain in DOMAINS)
ROUTE = "platform-to-nats"
DUPLICATE_WINDOW_SECONDS = 120
RETENTION_SECONDS = 48 * 3600
PUBLISH_TIMEOUT_SECONDS = 2.0
VIA_NATS = "nats"

# https://docs.nats.io/nats-concepts/subjects#characters-allowed-and-recommended-for-subject-names
_SUBJECT = re.compile(rf"(?:{'|'.join(DOMAINS)})(?:\.[A-Za-z0-9_:-]+)+")


class NatsBridge:
    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._stream_ready = False

    def publish(self, messages: Sequence[Message]) -> int:
        """How many messages, from the first on, JetStream has stored.

        Raises PoisonMessageError when one of them can't be sent at all, DependencyUnavailableError when
        JetStream can't be reached.
        """
        try:
            return self._connection.run(self._publish(messages), timeout_seconds=5 + len(messages) * 0.1)
        except TimeoutError as error:
            raise DependencyUnavailableError("message bus") from error

    async def _publish(self, messages: Sequence[Message]) -> int:
        from nats.errors import Error as NatsError
        from nats.errors import MaxPayloadError

        stream = await self._connection.jetstream()
        if not self._stream_ready:
            await ensure_stream(stream)
            self._stream_ready = True
        for done, message in enumerate(messages):
            if VIA_NATS in message.via.split(","):
                # It came in over NATS: sending it back would let it go round for ever.
                continue
            subject = subject_of(message)
            try:
                stored = await stream.publish(
                    subject,
                    message.to_json(),
                    timeout=PUBLISH_TIMEOUT_SECONDS,
                    stream=STREAM,
                    headers=headers_of(message),
                )
            except MaxPayloadError as error:
                raise PoisonMessageError(f"{subject} is larger than NATS takes") from error
            except (NatsError, OSError, TimeoutError):
                self._stream_ready = False
                logger.warning("nats did not store a message", exc_info=True)
                return done
            if stored.duplicate:
                emit_metric("bridge_duplicates_total", 1, route=ROUTE)
        return len(messages)


def subject_of(message: Message) -> str:
    """`events.created` of event 42 → `events.created.42`. Raises PoisonMessageError for one the stream has not."""
    subject = f"{message.type}.{message.subject}"
    if not _SUBJECT.fullmatch(subject):
        raise PoisonMessageError(f"{subject[:200]!r} is no subject of the stream {STREAM}")
    return subject


def headers_of(message: Message) -> dict[str, str]:
    return {
        "Nats-Msg-Id": f"{ROUTE}|{message.source}|{message.id}",
        "Content-Type": CONTENT_TYPE,
        "traceparent": message.traceparent,
    }


async def ensure_stream(stream: JetStreamContext) -> None:
    """Create or update the stream; only a limits stream remembers the ids of messages already consumed."""
    from nats.errors import Error as NatsError
    from nats.js.api import RetentionPolicy, StreamConfig
    from nats.js.errors import BadRequestError

    configuration: Any = StreamConfig(
        name=STREAM,
        subjects=list(SUBJECTS),
        retention=RetentionPolicy.LIMITS,
        max_age=RETENTION_SECONDS,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
    )
    try:
        try:
            await stream.add_stream(configuration)
        except BadRequestError:
            await stream.update_stream(configuration)
    except (NatsError, OSError, TimeoutError) as error:
        raise DependencyUnavailableError("message bus") from error
