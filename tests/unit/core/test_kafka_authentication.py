"""MSK's IAM authentication, offline: the token is made and signed without a call, and librdkafka takes it."""

from __future__ import annotations

import base64
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from confluent_kafka import KafkaError, Producer

from eventsplatform.adapters import kafka
from eventsplatform.adapters.kafka import client_configuration
from eventsplatform.config import ConfigurationError, KafkaSettings

ON_AWS = KafkaSettings("b-1.example.org:9098", iam_authentication=True)
AT_HOME = KafkaSettings("127.0.0.1:9092", iam_authentication=False)
MINUTES = 60


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials as Lambda gives them to a function."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not a secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a session")


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
@pytest.mark.usefixtures("role")
def test_a_token_asks_for_a_connection_in_the_functions_region_and_is_signed(
    monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    monkeypatch.setenv("AWS_REGION", region)

    token, expires_at = client_configuration(ON_AWS)["oauth_cb"]("")

    url = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert url.hostname == f"kafka.{region}.amazonaws.com"
    assert asked["Action"] == "kafka-cluster:Connect"
    assert asked["X-Amz-Credential"].startswith("ASIAEXAMPLE/")
    assert asked["X-Amz-Credential"].endswith(f"/{region}/kafka-cluster/aws4_request")
    assert asked["X-Amz-Security-Token"] == "a session"
    assert len(asked["X-Amz-Signature"]) == 64
    assert "not a secret" not in url.query
    assert 10 * MINUTES < expires_at - time.time() <= 15 * MINUTES


@pytest.mark.usefixtures("role")
def test_another_secret_signs_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the signature is made with the secret."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    first, _ = kafka._msk_token("")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
    second, _ = kafka._msk_token("")

    assert first != second


@pytest.mark.usefixtures("role")
def test_without_a_region_the_error_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)

    with pytest.raises(ConfigurationError, match="AWS_REGION"):
        kafka._msk_token("")


@pytest.mark.usefixtures("role")
def test_librdkafka_asks_for_the_token_and_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    tokens: list[str] = []
    errors: list[KafkaError] = []

    def make(configuration: str) -> tuple[str, float]:
        token, expires_at = kafka._msk_token(configuration)
        tokens.append(token)
        return token, expires_at

    configuration = client_configuration(ON_AWS) | {"oauth_cb": make, "error_cb": errors.append}
    producer = Producer({**configuration, "bootstrap.servers": "127.0.0.1:9", "log_level": 0})
    producer.poll(0)

    assert len(tokens) == 1
    assert [error for error in errors if error.code() == KafkaError._AUTHENTICATION] == []
    producer.purge()


def test_a_machine_without_aws_takes_the_same_way_without_authentication() -> None:
    on_aws, at_home = client_configuration(ON_AWS), client_configuration(AT_HOME)

    added = on_aws.items() - {**at_home, "bootstrap.servers": ON_AWS.bootstrap_servers}.items()
    assert {name for name, _ in added} == {"security.protocol", "sasl.mechanisms", "oauth_cb"}
    assert dict(added)["security.protocol"] == "SASL_SSL"
