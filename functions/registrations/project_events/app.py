from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.messaging.envelope import Message
from eventsplatform.registrations.model import EventPlaces
from eventsplatform.registrations.service import Registrations


@kafka_consumer
def handler(message: Message) -> None:
    """Keep capacity and status of events as the catalog tells them."""
    provide(Registrations).learn_event(message.read(EventPlaces.of_event))
