from collections.abc import Sequence

from eventsplatform.entrypoints.kafka import kafka_batch_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.messaging.bridge import NatsBridge
from eventsplatform.messaging.envelope import Message


@kafka_batch_consumer
def handler(messages: Sequence[Message]) -> int:
    """Hand every message on to NATS."""
    return provide(NatsBridge).publish(messages)
