"""MSK event source mappings: records of Kafka topics to functions, in order per partition."""

from local.triggers.kafka.consumer import Assignment
from local.triggers.kafka.topics import ensure_topics
from local.triggers.kafka.trigger import KafkaTrigger

__all__ = ["Assignment", "KafkaTrigger", "ensure_topics"]
