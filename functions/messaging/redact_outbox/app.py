from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.people import ErasedUser
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.records import Records
from eventsplatform.observability import logger


@kafka_consumer
def handler(message: Message) -> None:
    """Take who has been erased out of the event store."""
    if message.type == "users.deleted":
        redacted = provide(Records).forget(message.read(ErasedUser.model_validate).id)
        logger.info("an erased person was taken out of the event store", extra={"rows": redacted})
