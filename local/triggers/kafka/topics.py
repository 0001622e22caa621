"""Creating the topics that mappings read: the embedded broker comes back without any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

# What the embedded broker gives a topic that a producer's first message creates: whoever comes first, the
# number of partitions, and with it where a key goes, stays the same.
DEFAULT_PARTITIONS = 4


def ensure_topics(
    bootstrap_servers: str,
    topics: Iterable[str],
    *,
    partitions: int = DEFAULT_PARTITIONS,
    timeout_seconds: float = 10.0,
) -> None:
    """Create those topics that do not exist. Blocks; raises KafkaException when the broker does not do it."""
    wanted = [NewTopic(topic, partitions, replication_factor=1) for topic in dict.fromkeys(topics)]
    if not wanted:
        return
    settings: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, "log_level": 0, "error_cb": lambda _: None}
    admin = AdminClient(settings)
    for future in admin.create_topics(wanted, operation_timeout=timeout_seconds).values():
        try:
            future.result(timeout_seconds)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
