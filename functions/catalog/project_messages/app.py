from collections.abc import Sequence

from eventsplatform.catalog.model import ToldRegistration
from eventsplatform.catalog.organizers import Organizers
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.kafka import kafka_batch_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.model import UserSummary
from eventsplatform.identity.people import ErasedUser
from eventsplatform.messaging.envelope import Message


@kafka_batch_consumer
def handler(messages: Sequence[Message]) -> int:
    """Keep organisers' names and registration counts as identity and registrations tell them."""
    living = [each for each in messages if each.domain == "users" and each.type != "users.deleted"]
    if living:
        users = [message.read(UserSummary.model_validate) for message in living]
        provide(Organizers).learn((user.id, user.name, user.version) for user in users)
    for message in messages:
        if message.type == "users.deleted":
            erased = message.read(ErasedUser.model_validate)
            provide(Organizers).forget(erased.id, erased.version)
    told = [message.read(ToldRegistration.model_validate) for message in messages if message.domain == "registrations"]
    provide(Catalog).learn_counts(told)
    return len(messages)
