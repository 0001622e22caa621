from collections.abc import Sequence

from eventsplatform.entrypoints.kafka import kafka_batch_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.messaging.envelope import Message
from eventsplatform.registrations.webhooks.deliveries import DeliveryQueue


@kafka_batch_consumer(notifies=True)
def handler(messages: Sequence[Message]) -> int:
    """Make deliveries of what webhooks are to be told."""
    provide(DeliveryQueue).put(messages)
    return len(messages)
