from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.people import ErasedUser
from eventsplatform.messaging.envelope import Message
from eventsplatform.realtime.service import Rooms


@kafka_consumer(notifies=True)
def handler(message: Message) -> None:
    """Push a message to the rooms of everyone who may see it; take away the room of who has been erased."""
    if message.type == "users.deleted":
        provide(Rooms).forget(message.read(ErasedUser.model_validate).id)
    else:
        provide(Rooms).fan_out(message)
