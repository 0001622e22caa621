from collections.abc import Sequence

from eventsplatform.catalog.model import ToldRegistration
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.kafka import kafka_batch_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.model import UserSummary
from eventsplatform.messaging.envelope import Message


@kafka_batch_consumer
def handler(messages: Sequence[Message]) -> int:
    """Keep organisers' names and registration counts as identity and registrations tell them."""
    catalog = provide(Catalog)
    users = [message.read(UserSummary.model_validate) for message in messages if message.domain == "users"]
    told = [message.read(ToldRegistration.model_validate) for message in messages if message.domain == "registrations"]
    for user in users:
        catalog.learn_user(user.id, user.name, user.version)
    catalog.learn_counts(told)
    return len(messages)
