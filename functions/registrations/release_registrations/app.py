from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.identity.model import UserSummary
from eventsplatform.identity.people import ErasedUser
from eventsplatform.messaging.envelope import Message
from eventsplatform.registrations.attendees import Attendees
from eventsplatform.registrations.webhooks.owners import WebhookOwners


@kafka_consumer
def handler(message: Message) -> None:
    """Give back the places of who has been erased, and stop webhooks whose owners are erased or suspended."""
    if message.type == "users.deleted":
        erased = message.read(ErasedUser.model_validate)
        provide(Attendees).forget(erased.id)
        provide(WebhookOwners).forget(erased.id)
    elif message.type == "users.updated":
        user = message.read(UserSummary.model_validate)
        provide(WebhookOwners).set_suspended(user.id, user.suspended, user.version)
