from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.kafka import kafka_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.messaging.envelope import Message


@kafka_consumer
def handler(message: Message) -> None:
    """Keep organisers' names and registration counts as identity and registrations tell them."""
    catalog, data = provide(Catalog), message.data
    match message.type.partition(".")[0]:
        case "users":
            catalog.learn_user(data["id"], data["name"], data["version"])
        case "registrations":
            counts = data["counts"]
            catalog.learn_counts(data["event_id"], counts["registered"], counts["waitlisted"], counts["version"])
