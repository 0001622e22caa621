"""A Valkey of a test's own, which it may kill, stop and empty as it likes: nobody brings it back but the test."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from eventsplatform.adapters.redis import make_client
from eventsplatform.config import RedisSettings
from local.engines.ports import choose_ports
from local.engines.valkey import Valkey
from tests.support.polling import eventually


class OwnValkey:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._engine = Valkey(directory, choose_ports(["redis"], directory / "ports.json")["redis"])
        self._process: subprocess.Popen[bytes] | None = None
        self.url = self._engine.address

    def client(self, url: str | None = None) -> redis.Redis:
        """A client as functions have it."""
        return make_client(RedisSettings(url or self.url))

    def start(self) -> None:
        """Empty: it keeps nothing."""
        with (self._directory / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._engine.command().arguments, cwd=self._directory, stdout=log, stderr=subprocess.STDOUT
            )
        with self.client() as client:
            eventually(client.ping, what="an answer of Valkey")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def killed(self) -> Iterator[None]:
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stopped: its kernel takes connections and bytes, and nothing answers. It keeps its data."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
            with self.client() as client:
                eventually(client.ping, what="an answer of Valkey")


@contextmanager
def own_valkey(directory: Path) -> Iterator[OwnValkey]:
    valkey = OwnValkey(directory)
    valkey.start()
    try:
        yield valkey
    finally:
        valkey.kill()
