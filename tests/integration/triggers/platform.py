"""Workers, triggers and control plane together, over real engines, for synchronous tests."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import uvicorn
from confluent_kafka import Producer

from local.application import Application, Function
from local.control_plane import ControlPlane, provision
from local.engines import Endpoints
from local.mailbox import Mailbox
from local.triggers import Triggers
from local.triggers.aws import aws_client
from local.workers import Workers

HANDLERS = Path(__file__).parents[2] / "fixtures" / "triggers"

T = TypeVar("T")


@dataclass(frozen=True)
class Recorder:
    """A function that writes down its events (`tests/fixtures/triggers/record`), and what it has written."""

    name: str
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.directory / f"{self.name}.jsonl"

    @property
    def function(self) -> Function:
        environment = {"RECORD_FILE": str(self.file), **self.settings}
        return Function(self.name, "app.handler", HANDLERS / "record", environment=environment, **self.options)

    def invocations(self) -> list[dict[str, Any]]:
        """`request_id`, `at` and `event` of each."""
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def events(self) -> list[Any]:
        return [invocation["event"] for invocation in self.invocations()]

    def offsets(self, partition: str) -> list[list[int]]:
        """The offsets of one partition in each Kafka event that has some of it."""
        batches = [[record["offset"] for record in event["records"].get(partition, [])] for event in self.events()]
        return [batch for batch in batches if batch]

    def bodies(self) -> list[list[str]]:
        """The bodies in each SQS event."""
        return [[record["body"] for record in event["Records"]] for event in self.events()]


class Platform:
    def __init__(self, application: Application, endpoints: Endpoints, state: Path) -> None:
        self.application = application
        self.endpoints = endpoints
        self.state = state
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)

    def client(self, service: str, **settings: Any) -> Any:
        return aws_client(service, self.endpoints.aws, **settings)

    def provision(self) -> None:
        self.call(provision(self.application, self.endpoints.aws, state=self.state))

    async def _start(self) -> None:
        functions = self.application.functions
        self.workers = Workers(functions, watch=False)
        self.triggers = Triggers(
            self.application, self.workers, aws_endpoint=self.endpoints.aws, bootstrap_servers=self.endpoints.kafka
        )
        self._control_plane = ControlPlane(
            functions,
            self.workers,
            self.triggers.asynchronous,
            mailbox=Mailbox(self.state / "mail"),
            upstream=self.endpoints.moto,
        )
        port = urlsplit(self.endpoints.aws).port
        assert port is not None
        config = uvicorn.Config(self._control_plane, host="127.0.0.1", port=port, log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", port))
        self._serving = asyncio.create_task(self._server.serve([listener]))
        await self.workers.start()
        while not self._server.started:
            await asyncio.sleep(0.01)
        await provision(self.application, self.endpoints.aws, state=self.state)
        await self.triggers.start()

    async def _stop(self) -> None:
        await self.triggers.stop()
        self._server.should_exit = True
        await self._serving
        await self._control_plane.close()
        await self.workers.stop()

    @contextmanager
    def running(self) -> Iterator[Platform]:
        self._thread.start()
        try:
            self.call(self._start())
            try:
                yield self
            finally:
                self.call(self._stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@contextmanager
def platform(application: Application, endpoints: Endpoints, state: Path) -> Iterator[Platform]:
    """The platform from provisioning to the end of its triggers."""
    with Platform(application, endpoints, state).running() as running:
        yield running


def produce(bootstrap_servers: str, topic: str, messages: Sequence[dict[str, Any]]) -> None:
    """Produce (`value`, `key`, `partition`, `headers`) and wait until the broker has all."""
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 0, "log_level": 0})
    for message in messages:
        producer.produce(topic, **message, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(20) == 0
    assert not failures
