from collections.abc import Sequence

from eventsplatform.entrypoints.kafka import kafka_batch_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.messaging.envelope import Message
from eventsplatform.search.model import IndexedEvent
from eventsplatform.search.service import EventSearch


@kafka_batch_consumer
def handler(messages: Sequence[Message]) -> int:
    """Keep the search index equal to the catalog."""
    provide(EventSearch).learn_events([message.read(IndexedEvent.of_event) for message in messages])
    return len(messages)
