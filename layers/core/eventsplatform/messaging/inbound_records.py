"""What becomes of messages that come in over NATS: records of the topics that their routes lead to, or dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from eventsplatform.adapters.jetstream import Delivered
from eventsplatform.adapters.kafka import MESSAGE_BYTES, KafkaMessage
from eventsplatform.clock import Clock, utc_now
from eventsplatform.errors import PoisonMessageError
from eventsplatform.messaging.dead_letters import dead_letter
from eventsplatform.messaging.envelope import Message, mirrored
from eventsplatform.messaging.inbound import carried, read
from eventsplatform.messaging.routes import FromNats, Routes, Shard, values_of


class InboundRecord(NamedTuple):
    """What becomes of an arrival: `kafka` is what to produce, None for a message that came round, which `loop` is.

    `route` is empty for a dead letter. `time` is the message's own; the message itself is not kept while it is under
    way: what it holds are many objects.
    """

    sequence: int
    kafka: KafkaMessage | None
    route: str = ""
    time: str = ""
    loop: Message | None = None


class InboundRecords:
    def __init__(self, routes: Routes, dead_letters: str, clock: Clock = utc_now) -> None:
        """`dead_letters` is the topic of what cannot be read."""
        self._routes = routes
        self._dead_letters = dead_letters
        self._clock = clock

    def of(self, shard: Shard, arrival: Delivered) -> InboundRecord:
        stream = shard.stream.name
        try:
            route, captures = shard.route(arrival.subject)
            message = read(stream, arrival)
            if self._routes.is_loop(message):
                return InboundRecord(arrival.sequence, None, route.name, loop=message)
            kafka = self._record(route, captures, arrival, message)
            return InboundRecord(arrival.sequence, kafka, route.name, message.time)
        except PoisonMessageError as error:
            letter = dead_letter(
                self._dead_letters,
                f"{stream}@{arrival.sequence}",
                error,
                key=arrival.subject,
                value=arrival.data,
                headers=arrival.headers.items(),
                attempts=arrival.attempts,
                sent_at=int(arrival.stored_at * 1000),
                put_aside_at=self._clock(),
            )
            return InboundRecord(arrival.sequence, letter)

    def _record(
        self, route: FromNats, captures: Mapping[str, str], arrival: Delivered, message: Message
    ) -> KafkaMessage:
        """Raises PoisonMessageError for a message that has no key or that Kafka would not take."""
        lookup = values_of(message, captures, arrival.headers)
        try:
            message_type, key = route.type.subject(lookup), route.key.fill(lookup)
        except ValueError as error:
            raise PoisonMessageError(f"{route.name}: {error}") from error
        if not key:
            raise PoisonMessageError(f"{route.name}: the key would be empty")
        # The type is of the subject, which NATS guards, and not what the sender says.
        mark = {
            "type": message_type,
            "subject": message.subject or key,
            "partitionkey": key,
            **self._routes.mark(message),
        }
        told = {} if message.type in (message_type, arrival.subject) else {"sendertype": message.type}
        envelope = message.envelope(**mark, **told)
        try:
            value = orjson.dumps(envelope)
        except TypeError as error:
            raise PoisonMessageError(f"nested too deep to be written: {error}") from error
        headers = {
            **carried(arrival.headers),
            **{name: template.fill(lookup) for name, template in route.headers.items()},
            **mirrored(envelope),
        }
        size = len(value) + len("".join(headers)) + 4 * len("".join(headers.values()))
        if size > MESSAGE_BYTES:
            raise PoisonMessageError(f"up to {size} bytes; allowed: {MESSAGE_BYTES}")
        return KafkaMessage(route.topic, key, value, headers)
