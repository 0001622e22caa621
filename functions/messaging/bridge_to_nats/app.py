from collections.abc import Sequence

from eventsplatform.entrypoints.kafka import kafka_partitions_consumer
from eventsplatform.entrypoints.providers import provide
from eventsplatform.messaging.bridge_to_nats import BridgeToNats
from eventsplatform.messaging.model import Batch, Outcome


@kafka_partitions_consumer
def handler(batches: Sequence[Batch]) -> Sequence[Outcome]:
    """Hand every message on to NATS, partitions side by side."""
    return provide(BridgeToNats).forward(batches)
