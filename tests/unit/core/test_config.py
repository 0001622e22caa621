from __future__ import annotations

import pytest

from eventsplatform.config import (
    ConfigurationError,
    DatabaseSettings,
    KafkaSettings,
    MailSettings,
    NatsSettings,
    OutboxSettings,
    RedisSettings,
    SearchSettings,
    TokenSettings,
    WebClientSettings,
    WebSocketSettings,
    read_setting,
)

SETTINGS = [
    (DatabaseSettings, {"DATABASE_URL": "postgresql://h/db", "DATABASE_ROLE": "catalog"}),
    (RedisSettings, {"REDIS_URL": "redis://h:6379/0"}),
    (SearchSettings, {"OPENSEARCH_URL": "http://h:9200"}),
    (KafkaSettings, {"KAFKA_BOOTSTRAP_SERVERS": "h:9092"}),
    (NatsSettings, {"NATS_URL": "nats://h:4222"}),
    (TokenSettings, {"JWT_KEYS_SECRET": "JwtKeys"}),
    (OutboxSettings, {}),
    (WebSocketSettings, {"WEBSOCKET_CALLBACK_URL": "https://h/dev"}),
    (MailSettings, {"MAIL_FROM": "Events <no-reply@h>"}),
    (WebClientSettings, {"WEB_URL": "https://h/app"}),
]
REQUIRED = [(settings, variables, name) for settings, variables in SETTINGS for name in variables]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings are read once per environment: each test begins without any."""
    for settings, variables in SETTINGS:
        settings.from_environment.cache_clear()  # type: ignore[attr-defined]
        for name in (*variables, "OUTBOX_SHARDS"):
            monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(("settings", "variables"), SETTINGS)
def test_settings_read_the_required_variables(
    settings: type, variables: dict[str, str], environment: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)

    read = settings.from_environment()  # type: ignore[attr-defined]

    assert set(variables.values()) <= set(vars(read).values())


@pytest.mark.parametrize(("settings", "variables", "missing"), REQUIRED)
def test_a_missing_variable_is_named(
    settings: type, variables: dict[str, str], missing: str, environment: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        if name != missing:
            environment.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"{missing} is not set"):
        settings.from_environment()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (DatabaseSettings, "DATABASE_URL", "mysql://h/db"),
        (DatabaseSettings, "DATABASE_IAM_AUTHENTICATION", "yes"),
        (RedisSettings, "REDIS_URL", "h:6379"),
        (SearchSettings, "OPENSEARCH_AWS_SIGNED", "1"),
        (NatsSettings, "NATS_URL", "http://h"),
        (OutboxSettings, "OUTBOX_SHARDS", "0"),
        (OutboxSettings, "OUTBOX_SHARDS", "four"),
        (WebSocketSettings, "WEBSOCKET_CALLBACK_URL", "wss://h"),
        (WebClientSettings, "WEB_URL", "h/app"),
    ],
)
def test_a_malformed_variable_is_named(settings: type, name: str, value: str, environment: pytest.MonkeyPatch) -> None:
    for variable, sound in dict(SETTINGS)[settings].items():
        environment.setenv(variable, sound)
    environment.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"{name} is not valid"):
        settings.from_environment()  # type: ignore[attr-defined]


def test_an_empty_variable_counts_as_unset() -> None:
    with pytest.raises(ConfigurationError, match="NAME is not set; allowed: anything"):
        read_setting("NAME", str, allowed="anything", environment={"NAME": ""})
    assert read_setting("NAME", str, default="usual", environment={"NAME": ""}) == "usual"


def test_an_address_with_a_password_stays_out_of_the_message(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DATABASE_ROLE", "catalog")
    environment.setenv("DATABASE_URL", "mysql://someone:hunter2@h/db")

    with pytest.raises(ConfigurationError) as refused:
        DatabaseSettings.from_environment()

    assert "hunter2" not in str(refused.value)


def test_settings_are_read_once_per_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_URL", "redis://first")
    first = RedisSettings.from_environment()
    environment.setenv("REDIS_URL", "redis://second")

    assert RedisSettings.from_environment() is first
