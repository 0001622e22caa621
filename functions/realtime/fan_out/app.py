from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.messaging.envelope import Message
from eventsplatform.realtime.service import Rooms


@kafka_consumer
def handler(message: Message) -> None:
    """Push a message to the rooms of everyone who may see it."""
    provide(Rooms).fan_out(message)
