"""What invokes functions besides the gateway: Kafka, queues, schedules and asynchronous invocations."""

from local.triggers.asynchronous import AsyncInvocations
from local.triggers.kafka import ensure_topics
from local.triggers.schedule_expressions import InvalidScheduleError
from local.triggers.triggers import Triggers

__all__ = ["AsyncInvocations", "InvalidScheduleError", "Triggers", "ensure_topics"]
