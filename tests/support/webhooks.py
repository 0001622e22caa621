"""A receiver of webhooks on this machine, and the functions that send to it."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from standardwebhooks import Webhook as Verifier

from eventsplatform.adapters.outbound import Outbound, OutboundAnswer, timed_context
from eventsplatform.adapters.postgres import Database
from eventsplatform.adapters.sealing import Sealing
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.registrations.webhooks.repository import PostgresWebhooks
from eventsplatform.registrations.webhooks.sender import Sender
from eventsplatform.registrations.webhooks.wiring import Metrics
from tests.support.database import SHARDS
from tests.support.https import https_server

HOST = "hooks.example.org"
PUBLIC = "93.184.216.34"
KEYS = {"active": "k1", "k1": "a key of the tests that seals the secrets of webhooks"}


@dataclass(frozen=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def signed_at(self) -> datetime:
        return datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)

    def verified(self, secret: str) -> Any:
        """The content, if the reference library accepts the signature. Raises WebhookVerificationError."""
        return Verifier(secret).verify(self.body, dict(self.headers))

    def is_signed_with(self, secret: str) -> bool:
        """Whether one of the signatures is what the reference library makes of it; whenever it was signed."""
        expected = Verifier(secret).sign(self.id, self.signed_at, self.body.decode())
        return expected in self.headers["webhook-signature"].split(" ")


@dataclass(frozen=True)
class Reply:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"taken"


Answering = Callable[[Received], Reply]


class Receiver:
    """`answers` says for a path what is answered; 200 for others. An answer that takes its time holds up no other."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.port = port
        self.certificate = certificate
        self.received: list[Received] = []
        self.answers: dict[str, Answering] = {}
        self.most_at_once = 0
        self._under_way = 0
        self._lock = threading.Lock()

    def at(self, path: str) -> str:
        """As it is registered: on the port that all of them have, which no test may listen on."""
        return f"https://{HOST}{path}"

    def by_path(self, path: str) -> list[Received]:
        return [received for received in self.received if received.path == path]

    def outbound(self, **options: Any) -> Rerouted:
        return Rerouted(self.port, self.certificate, **options)

    def answer(self, received: Received) -> Reply:
        with self._lock:
            self.received.append(received)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            return self.answers.get(received.path, lambda _: Reply())(received)
        finally:
            with self._lock:
                self._under_way -= 1


class Rerouted:
    """The client as functions have it, but for the port, the name's address and whom it trusts."""

    def __init__(self, port: int, certificate: Path, *, admits: Callable[[str], bool] = lambda _: True) -> None:
        self._port = port
        self._outbound = Outbound(
            resolve=lambda _host, _port: ["127.0.0.1"],
            admits=admits,
            context=timed_context(cafile=str(certificate)),
            ports={port},
        )
        self._public = Outbound(resolve=lambda _host, _port: [PUBLIC])

    def post(self, url: str, body: bytes, headers: Mapping[str, str], **options: Any) -> OutboundAnswer:
        return self._outbound.post(f"https://{HOST}:{self._port}{urlsplit(url).path}", body, headers, **options)

    def refuse_private(self, url: str) -> None:
        self._public.refuse_private(url)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.kept.answer(Received(self.path, headers, body))
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def receiver_running(certificate: Path) -> Iterator[Receiver]:
    with https_server(certificate, _Handler) as server:
        server.kept = Receiver(server.server_port, certificate)
        yield server.kept


@contextmanager
def work_of_webhooks(url: str) -> Iterator[UnitOfWork[PostgresWebhooks]]:
    """On a connection of its own."""
    database = Database(DatabaseSettings(url, "registrations", False))
    try:
        yield UnitOfWork(database, PostgresWebhooks, lambda _: None, SHARDS)
    finally:
        database.close()


def send(url: str, port: int, certificate: Path, now: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """As the function does, on a connection of its own."""
    with work_of_webhooks(url) as work:
        post = Rerouted(port, certificate).post
        return Sender(work, post, Sealing(lambda: KEYS), Metrics(), now, lambda: 0.0).run(lambda: 120_000)


if __name__ == "__main__":
    send(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
