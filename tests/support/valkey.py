"""A Valkey of a test's own, which it may kill, stop and empty as it likes: nobody brings it back but the test."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

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
        """A client that gives up as soon as the functions' own does."""
        return redis.Redis.from_url(
            url or self.url,
            decode_responses=True,
            socket_timeout=0.25,
            socket_connect_timeout=0.25,
            retry=Retry(NoBackoff(), 1),
        )

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
