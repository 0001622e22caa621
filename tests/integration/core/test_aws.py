"""Secrets and calls to other functions while the AWS endpoint is there, and while it is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eventsplatform.adapters import aws
from eventsplatform.adapters.aws import FunctionClient, SecretStore
from eventsplatform.adapters.websocket import WebSocketGateway
from eventsplatform.config import WebSocketSettings
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


def test_a_relay_that_cannot_be_poked_fails_nobody(endpoint: Callable[[str], None]) -> None:
    endpoint(NOWHERE)

    RelayPoke(FunctionClient(), "RelayOutboxFunction")({1, 2})


def test_a_frame_that_cannot_be_pushed_is_dropped_and_its_connection_kept(endpoint: Callable[[str], None]) -> None:
    endpoint(NOWHERE)

    assert WebSocketGateway(WebSocketSettings(NOWHERE)).post("L0SM9cOFvHcCIhw=", b"{}")
