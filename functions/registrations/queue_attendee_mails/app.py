from collections.abc import Sequence

from eventsplatform.entrypoints.kafka import kafka_batch_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.messaging.envelope import Message
from eventsplatform.observability import emit_metric
from eventsplatform.registrations.mail_queue import MailQueue
from eventsplatform.registrations.messages import counted_by_status


@kafka_batch_consumer(notifies=True)
def handler(messages: Sequence[Message]) -> int:
    """Queue the mails that attendees are due for what has happened to them and their events, and count it."""
    provide(MailQueue).hear(messages)
    for status, count in counted_by_status(messages).items():
        emit_metric("event_registrations_total", count, status=status)
    return len(messages)
