from collections.abc import Sequence

from eventsplatform.entrypoints.kafka import kafka_batch_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.messaging.envelope import Message
from eventsplatform.registrations.mail_queue import MailQueue
from eventsplatform.registrations.messages import count_changes


@kafka_batch_consumer(notifies=True)
def handler(messages: Sequence[Message]) -> int:
    """Queue the mails that attendees are due for what has happened to them and their events, and count it."""
    provide(MailQueue).hear(messages)
    count_changes(messages)
    return len(messages)
