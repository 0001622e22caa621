"""Secrets and calls to other functions while the AWS endpoint is there, and while it is not."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from eventsplatform.adapters import aws
from eventsplatform.adapters.aws import FunctionClient, SecretStore
from eventsplatform.adapters.websocket import WebSocketGateway
from eventsplatform.config import WebSocketSettings
from eventsplatform.deadline import ANSWERING_SECONDS, ending_in
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.messaging.outbox import RelayPoke
from local.engines import Endpoints

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


def test_a_function_that_does_not_answer_is_called_once(silent: socket.socket) -> None:
    with pytest.raises(ReadTimeoutError):
        aws.client("lambda", read_timeout=0.3).invoke(FunctionName="CheckSessionFunction")

    assert connections_to(silent) == 1


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
