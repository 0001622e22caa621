from collections.abc import Sequence

from eventsplatform.entrypoints.kafka import kafka_batch_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.messaging.envelope import Message
from eventsplatform.registrations.model import EventFacts
from eventsplatform.registrations.service import Registrations


@kafka_batch_consumer
def handler(messages: Sequence[Message]) -> int:
    """Keep capacity and status of events as the catalog tells them."""
    provide(Registrations).learn_events([message.read(EventFacts.of_event) for message in messages])
    return len(messages)
