from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.people import ErasedUser
from eventsplatform.messaging.envelope import Message
from eventsplatform.registrations.attendees import Attendees


@kafka_consumer
def handler(message: Message) -> None:
    """Give back the places of who has been erased."""
    if message.type == "users.deleted":
        provide(Attendees).forget(message.read(ErasedUser.model_validate).id)
