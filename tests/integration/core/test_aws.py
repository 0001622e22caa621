"""Secrets and calls to other functions while the AWS endpoint is there, and while it is not."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from eventsplatform.adapters import aws
from eventsplatform.adapters.aws import FunctionCallError, FunctionClient, SecretStore
from eventsplatform.adapters.breakers import states
from eventsplatform.adapters.websocket import WebSocketGateway
from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.clock import utc_now
from eventsplatform.config import WebSocketSettings
from eventsplatform.deadline import ANSWERING_SECONDS, ending_in
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.gate.model import Session, StoreUnavailableError, Verdict
from eventsplatform.gate.policies import READ, Policy
from eventsplatform.gate.service import Gate
from eventsplatform.gate.wiring import IdentityFunction
from eventsplatform.messaging.outbox import RelayPoke
from local.engines import Endpoints
from tests.support.callers import caller

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Lets the adapters use another AWS endpoint; clients are made once per process and have to be forgotten."""

    def use(url: str) -> None:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }.items():
            monkeypatch.setenv(name, value)
        forget()

    def forget() -> None:
        for cached in (aws.client, aws._session, aws._secrets_provider):
            cached.cache_clear()

    yield use
    forget()


@pytest.fixture
def secret(endpoint: Callable[[str], None], endpoints: Endpoints) -> Any:
    """A function that changes a secret in Secrets Manager."""
    endpoint(endpoints.moto)
    secrets = aws.client("secretsmanager")

    def put(value: dict[str, str]) -> None:
        try:
            secrets.put_secret_value(SecretId="keys", SecretString=json.dumps(value))
        except secrets.exceptions.ResourceNotFoundException:
            secrets.create_secret(Name="keys", SecretString=json.dumps(value))

    return put


def test_a_secret_is_asked_for_once_while_it_is_fresh(secret: Any) -> None:
    secret({"active": "k1"})
    store = SecretStore()
    assert store.get_json("keys") == {"active": "k1"}

    secret({"active": "k2"})

    assert store.get_json("keys") == {"active": "k1"}
    aws._secrets_provider.cache_clear()
    assert store.get_json("keys") == {"active": "k2"}


def test_the_last_known_secret_serves_while_secrets_manager_does_not_answer(
    secret: Any, endpoint: Callable[[str], None]
) -> None:
    secret({"active": "k1"})
    store = SecretStore()
    assert store.get_json("keys") == {"active": "k1"}

    endpoint(NOWHERE)

    assert store.get_json("keys") == {"active": "k1"}
    with pytest.raises(DependencyUnavailableError):
        SecretStore().get_json("keys")


def test_a_function_that_cannot_be_reached_is_unavailable(endpoint: Callable[[str], None]) -> None:
    endpoint(NOWHERE)

    with pytest.raises(DependencyUnavailableError):
        FunctionClient().invoke("DescribeEventFunction", {"event_id": 1})


@pytest.fixture
def silent(endpoint: Callable[[str], None]) -> Iterator[socket.socket]:
    """An AWS endpoint that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield listener


def test_a_function_that_does_not_answer_is_called_once(silent: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = replace(CALL_POLICIES["function"], timeout=0.3)
    monkeypatch.setitem(CALL_POLICIES, "function", policy)  # type: ignore[arg-type]
    with pytest.raises(ReadTimeoutError):
        aws.client("lambda", "function").invoke(FunctionName="CheckSessionFunction")

    assert connections_to(silent) == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in ("function", "secretsmanager"):
        policy = replace(CALL_POLICIES[row], timeout=0.3)
        monkeypatch.setitem(CALL_POLICIES, row, policy)  # type: ignore[arg-type]


@pytest.mark.usefixtures("impatient")
def test_a_function_that_keeps_silent_is_left_alone_after_three_calls_and_others_are_not(silent: socket.socket) -> None:
    def seconds(function: str) -> float:
        began = time.monotonic()
        with pytest.raises(DependencyUnavailableError):
            FunctionClient().invoke(function, {})
        return time.monotonic() - began

    waited = [seconds("DescribeEventFunction") for _ in range(4)]

    assert min(waited[:3]) >= 0.3 > waited[3]
    assert seconds("CheckSessionFunction") >= 0.3
    assert connections_to(silent) == 4


@pytest.mark.usefixtures("impatient", "silent")
def test_a_breaker_lets_nobody_in_whose_session_cannot_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_SESSION_FUNCTION", "CheckSessionFunction")
    gate = Gate(NoCopy(), IdentityFunction(FunctionClient()), utc_now, time.monotonic, lambda _: None)

    for _ in range(CALL_POLICIES["function"].opens_after + 2):
        with pytest.raises(DependencyUnavailableError):
            gate.admit(caller(1), "203.0.113.7", READ)

    assert states()["CheckSessionFunction"].state == "open"


class NoCopy:
    """A Redis that is down."""

    def check(self, policy: Policy, address: str, session: Session | None) -> Verdict:
        raise StoreUnavailableError("down")

    def reconnected(self) -> bool:
        return False


class Answering:
    """An endpoint of Lambda where every function fails with an error of this type."""

    def __init__(self, error_type: str) -> None:
        self.calls = 0
        answer = json.dumps({"errorType": error_type, "errorMessage": "no"}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                self.calls += 1
                handler.rfile.read(int(handler.headers["Content-Length"]))
                handler.send_response(200)
                handler.send_header("X-Amz-Function-Error", "Unhandled")
                handler.send_header("Content-Length", str(len(answer)))
                handler.end_headers()
                handler.wfile.write(answer)

            def log_message(handler, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.mark.parametrize(
    ("error_type", "raised", "reached"),
    [("DependencyUnavailableError", DependencyUnavailableError, 3), ("NotFoundError", FunctionCallError, 10)],
)
def test_a_breaker_opens_for_functions_that_lack_what_they_need_and_not_for_their_answers(
    endpoint: Callable[[str], None], error_type: str, raised: type[Exception], reached: int
) -> None:
    answering = Answering(error_type)
    with answering.server as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint(f"http://127.0.0.1:{server.server_port}")

        for _ in range(10):
            with pytest.raises(raised):
                FunctionClient().invoke("DescribeEventFunction", {"event_id": 1})
        server.shutdown()

    assert answering.calls == reached


@pytest.mark.usefixtures("impatient")
def test_an_aws_service_that_breaks_off_is_asked_again_and_then_left_alone(
    endpoint: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint(NOWHERE)

    for _ in range(4):
        with pytest.raises(DependencyUnavailableError):
            SecretStore().get_json("keys")

    written = capsys.readouterr().out
    attempts = CALL_POLICIES["secretsmanager"].attempts
    assert written.count('"retries_total":[1.0]') == 3 * (attempts - 1)
    assert states()["secretsmanager"].state == "open"


def test_no_call_is_begun_that_could_outlast_the_invocation(silent: socket.socket) -> None:
    with ending_in((ANSWERING_SECONDS + 4.9) * 1000), pytest.raises(DependencyUnavailableError):
        FunctionClient().invoke("CheckSessionFunction", {"user_id": 1})

    assert connections_to(silent) == 0


def connections_to(listener: socket.socket) -> int:
    """How many clients have connected by now."""
    listener.setblocking(False)
    made = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            made += 1
    return made


def test_a_relay_that_cannot_be_poked_fails_nobody(endpoint: Callable[[str], None]) -> None:
    endpoint(NOWHERE)

    RelayPoke(FunctionClient(), "RelayOutboxFunction")({1, 2})


def test_a_frame_that_cannot_be_pushed_is_dropped_and_its_connection_kept(endpoint: Callable[[str], None]) -> None:
    endpoint(NOWHERE)

    assert WebSocketGateway(WebSocketSettings(NOWHERE)).post("L0SM9cOFvHcCIhw=", b"{}")
