"""What a topic holds."""

from __future__ import annotations

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support.polling import eventually


def dead_letters(kafka: str) -> dict[str, set[bytes]]:
    """What each dead-letter topic holds that has anything, each content once."""
    topics = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics
    held = {topic: everything_in(kafka, topic) for topic in topics if topic.endswith(".dlt")}
    return {topic: {bytes(each.value() or b"") for each in letters} for topic, letters in held.items() if letters}


def everything_in(kafka: str, topic: str) -> list[Message]:
    """All that a topic holds by now, in the order of its partitions."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "test",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
        }
    )
    unread = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unread])
    found: list[Message] = []

    def read() -> bool:
        polled = consumer.poll(0.2)
        if polled is not None and (error := polled.error()) is not None:
            assert error.code() == KafkaError._PARTITION_EOF, error
            unread.discard(polled.partition())
        elif polled is not None:
            found.append(polled)
        return not unread

    try:
        eventually(read, within=30, every=0, what=f"the end of {topic}")
    finally:
        consumer.close()
    return found
