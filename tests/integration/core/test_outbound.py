"""Calling what users name, against real TLS servers on this machine: what is refused, and how long a call can take."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eventsplatform.adapters.outbound import LOOK_UP_SECONDS, Outbound, OutboundAnswer, timed_context
from eventsplatform.outbound import NotPublicError, UnreachableError
from tests.support.https import certificate_for, https_server

HOST = "hooks.example.org"
PUBLIC = "93.184.216.34"


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    port: int
    certificate: Path
    received: list[Received] = field(default_factory=list)

    def at(self, path: str) -> str:
        return f"https://{HOST}:{self.port}{path}"

    @property
    def url(self) -> str:
        return self.at("/hook?x=1")

    def outbound(
        self,
        *,
        addresses: Sequence[str] = ("127.0.0.1",),
        admits: Callable[[str], bool] = lambda _: True,
        resolve: Callable[[str, int], Sequence[str]] | None = None,
    ) -> Outbound:
        """One that finds this server under its name, and takes loopback for public unless told otherwise."""
        return Outbound(
            resolve=resolve or (lambda _host, _port: addresses),
            admits=admits,
            context=timed_context(cafile=str(self.certificate)),
            ports={443, self.port},
        )


class Handler(http.server.BaseHTTPRequestHandler):
    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.kept.received.append(Received(self.path, dict(self.headers), body))
        if self.path.startswith("/redirect"):
            self.send_response(307)
            self.send_header("Location", f"https://{HOST}:{self.server.kept.port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/large"):
            self.send_response(200)
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(b"x" * 65_536)
        elif self.path.startswith("/drip"):
            while True:
                self.wfile.write(b"H")
                time.sleep(0.05)
        elif self.path.startswith("/body-drip"):
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"x")
                time.sleep(0.05)
        else:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"taken")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(certificate: Path) -> Iterator[Server]:
    with https_server(certificate, Handler) as server:
        server.kept = Server(server.server_port, certificate)
        yield server.kept


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_for(HOST, tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server(certificate: Path) -> Iterator[Server]:
    with serving(certificate) as running:
        yield running


def post(outbound: Outbound, url: str, **options: Any) -> OutboundAnswer:
    return outbound.post(url, b'{"a":1}', {"Content-Type": "application/json"}, **options)


def test_a_call_arrives_under_the_hosts_name_and_brings_its_answer(server: Server) -> None:
    answer = post(server.outbound(), server.url)

    assert (answer.status, answer.body, answer.is_complete) == (200, b"taken", True)
    (received,) = server.received
    assert received.path == "/hook?x=1"
    assert received.body == b'{"a":1}'
    assert received.headers["Host"] == f"{HOST}:{server.port}"
    assert received.headers["Content-Type"] == "application/json"
    assert received.headers["Accept-Encoding"] == "identity"


# ---------------------------------------------------------------------------------- where it may lead


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["10.0.0.7"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], ["fd00:ec2::254"],
        ["64:ff9b::7f00:1"], [PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], ["2606:4700::1111", "10.0.0.7"],
    ],
)  # fmt: skip
def test_a_name_of_which_any_address_is_not_public_is_not_called(addresses: list[str], server: Server) -> None:
    outbound = Outbound(resolve=lambda _host, _port: addresses, ports={server.port})

    with pytest.raises(NotPublicError, match="public internet"):
        post(outbound, server.url)
    with pytest.raises(NotPublicError, match="public internet"):
        outbound.refuse_private(server.url)
    assert server.received == []


def test_without_that_check_the_call_arrives(server: Server) -> None:
    """The negative control of the test before."""
    assert post(server.outbound(addresses=["127.0.0.1"]), server.url).status == 200
    assert len(server.received) == 1


def test_a_name_that_leads_elsewhere_when_it_is_asked_again_is_asked_once(server: Server) -> None:
    # Given a name that is of a public host for who checks it, and of this machine for who connects
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    asked: list[str] = []

    def rebind(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    connected: list[str] = []
    outbound = server.outbound(resolve=rebind, admits=lambda address: address == PUBLIC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", lambda address, *_: connected.append(address[0]) or refuse())
        with pytest.raises(UnreachableError):
            post(outbound, server.url)

    # Then the connection goes to the address that was checked
    assert asked == [HOST]
    assert connected == [PUBLIC]
    assert server.received == []


def refuse() -> None:
    raise ConnectionRefusedError("refused")


def test_a_name_that_others_are_to_call_may_lead_nowhere_but_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given this machine's resolver, and one that answers as it would for a name with such a record
    Outbound().refuse_private("https://does-not-exist.invalid/picture.png")
    asked = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append((host, port))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    with pytest.raises(NotPublicError):
        Outbound().refuse_private("https://pictures.example.org/me.png")
    assert asked == [("pictures.example.org", 443)]


def test_a_redirect_is_an_answer_and_not_followed(server: Server) -> None:
    answer = post(server.outbound(), server.at("/redirect"))

    assert answer.status == 307
    assert answer.headers["location"].endswith("/elsewhere")
    assert [received.path for received in server.received] == ["/redirect"]


def test_a_certificate_of_another_name_is_no_answer(tmp_path: Path) -> None:
    with (
        serving(certificate_for("other.example.org", tmp_path)) as other,
        pytest.raises(UnreachableError, match="CERTIFICATE"),
    ):
        post(other.outbound(), other.url)
    assert other.received == []


def test_a_certificate_that_nobody_vouches_for_is_no_answer(server: Server) -> None:
    trusting_the_public = Outbound(resolve=lambda *_: ["127.0.0.1"], admits=lambda _: True, ports={server.port})

    with pytest.raises(UnreachableError, match="CERTIFICATE"):
        post(trusting_the_public, server.url)
    assert server.received == []


def test_headers_cannot_be_smuggled_in(server: Server) -> None:
    with pytest.raises(ValueError, match="header"):
        server.outbound().post(server.url, b"", {"X-Event": "a\r\nX-Other: b"})
    assert server.received == []


def test_the_next_address_is_tried_when_one_takes_no_connection(server: Server) -> None:
    # Nothing listens on the second loopback address
    assert post(server.outbound(addresses=["127.0.0.2", "127.0.0.1"]), server.url).status == 200


# ---------------------------------------------------------------------------------- how long and how much


@pytest.mark.parametrize("path", ["/drip", "/body-drip"])
def test_a_server_that_drips_is_left_at_the_deadline(path: str, server: Server) -> None:
    began = time.monotonic()

    with pytest.raises(UnreachableError, match="timed out"):
        post(server.outbound(), server.at(path), within_seconds=0.6)

    assert 0.5 < time.monotonic() - began < 3


def test_a_server_that_never_says_hello_is_left_at_the_deadline(certificate: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = Server(silent.getsockname()[1], certificate)
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="timed out"):
            post(server.outbound(), server.url, within_seconds=0.5)
    assert time.monotonic() - began < 3


def test_a_resolver_that_does_not_answer_is_left_at_the_deadline(server: Server) -> None:
    release = threading.Event()
    outbound = server.outbound(resolve=lambda *_: (release.wait(20) and []) or [])
    try:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="not looked up in time"):
            post(outbound, server.url, within_seconds=0.3)
        assert time.monotonic() - began < LOOK_UP_SECONDS
    finally:
        release.set()


def test_an_answer_is_read_up_to_its_limit(server: Server) -> None:
    answer = post(server.outbound(), server.at("/large"), answer_bytes=1_000)

    assert answer.body == b"x" * 1_000
    assert not answer.is_complete


def test_nobody_there_is_unreachable(certificate: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = Server(closed.getsockname()[1], certificate)
        with pytest.raises(UnreachableError):
            post(server.outbound(), server.url)
    with pytest.raises(UnreachableError, match="nowhere"):
        post(server.outbound(addresses=[]), server.url)
