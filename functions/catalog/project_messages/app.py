from eventsplatform.catalog.model import ToldRegistration
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.model import UserSummary
from eventsplatform.messaging.envelope import Message


@kafka_consumer
def handler(message: Message) -> None:
    """Keep organisers' names and registration counts as identity and registrations tell them."""
    catalog = provide(Catalog)
    match message.type.partition(".")[0]:
        case "users":
            user = message.read(UserSummary.model_validate)
            catalog.learn_user(user.id, user.name, user.version)
        case "registrations":
            told = message.read(ToldRegistration.model_validate)
            catalog.learn_counts(told.event_id, told.counts.registered, told.counts.waitlisted, told.counts.version)
