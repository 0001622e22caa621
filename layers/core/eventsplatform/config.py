"""Settings, one small frozen class per need, read from the environment when first asked for.

Nothing is read at import, and no function has to satisfy settings it does not use. A missing or
malformed variable is a `ConfigurationError` that names it and says what is allowed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeVar
from urllib.parse import urlsplit

from eventsplatform.call_policies import CALL_POLICIES

T = TypeVar("T")


class ConfigurationError(RuntimeError):
    """A setting is missing or malformed."""


def read_setting(
    name: str,
    parse: Callable[[str], T],
    *,
    default: T | None = None,
    allowed: str = "",
    environment: Mapping[str, str] | None = None,
) -> T:
    """The parsed value of environment variable `name`; an empty one counts as unset.

    Raises ConfigurationError when it is unset without a default, or when `parse` refuses it.
    """
    text = (os.environ if environment is None else environment).get(name, "")
    if not text:
        if default is None:
            raise ConfigurationError(f"{name} is not set{f'; allowed: {allowed}' if allowed else ''}")
        return default
    try:
        return parse(text)
    except ValueError as error:
        # The value itself stays out of the log: a URL may hold a password.
        raise ConfigurationError(f"{name} is not valid: {error}{f'; allowed: {allowed}' if allowed else ''}") from error


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(f"{text} is less than 1")
    return int(text)


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if urlsplit(text).scheme not in schemes:
            raise ValueError(f"expected {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return text

    return parse


@dataclass(frozen=True)
class DatabaseSettings:
    """Where Postgres is and as which role to connect.

    On AWS the URL has no password: `iam_authentication` makes each connection sign a token for the
    role (RDS IAM database authentication), so no database secret exists.
    """

    url: str
    role: str
    iam_authentication: bool
    connect_timeout_seconds: int = int(CALL_POLICIES["postgres connect"].timeout)

    @classmethod
    @cache
    def from_environment(cls) -> DatabaseSettings:
        return cls(
            url=read_setting("DATABASE_URL", _url("postgresql", "postgres")),
            role=read_setting("DATABASE_ROLE", str),
            iam_authentication=read_setting("DATABASE_IAM_AUTHENTICATION", _flag, default=False, allowed="true, false"),
        )


@dataclass(frozen=True)
class RedisSettings:
    url: str
    timeout_seconds: float = CALL_POLICIES["redis"].timeout

    @classmethod
    @cache
    def from_environment(cls) -> RedisSettings:
        return cls(url=read_setting("REDIS_URL", _url("redis", "rediss")))


@dataclass(frozen=True)
class SearchSettings:
    url: str
    aws_signed: bool
    timeout_seconds: float = CALL_POLICIES["opensearch"].timeout

    @classmethod
    @cache
    def from_environment(cls) -> SearchSettings:
        return cls(
            url=read_setting("OPENSEARCH_URL", _url("http", "https")),
            aws_signed=read_setting("OPENSEARCH_AWS_SIGNED", _flag, default=False, allowed="true, false"),
        )


@dataclass(frozen=True)
class KafkaSettings:
    bootstrap_servers: str
    iam_authentication: bool

    @classmethod
    @cache
    def from_environment(cls) -> KafkaSettings:
        return cls(
            bootstrap_servers=read_setting("KAFKA_BOOTSTRAP_SERVERS", str, allowed="host:port[,host:port…]"),
            iam_authentication=read_setting("KAFKA_IAM_AUTHENTICATION", _flag, default=False, allowed="true, false"),
        )


@dataclass(frozen=True)
class NatsSettings:
    url: str
    credentials_secret: str

    @classmethod
    @cache
    def from_environment(cls) -> NatsSettings:
        return cls(
            url=read_setting("NATS_URL", _url("nats", "tls")),
            credentials_secret=read_setting("NATS_CREDENTIALS_SECRET", str, default=""),
        )


@dataclass(frozen=True)
class TokenSettings:
    """How tokens are issued and verified; the keys themselves stand in Secrets Manager.

    Access tokens and those of partner systems are each for an audience of their own.
    """

    keys_secret: str
    issuer: str
    audience: str
    partner_audience: str

    @classmethod
    @cache
    def from_environment(cls) -> TokenSettings:
        return cls(
            keys_secret=read_setting("JWT_KEYS_SECRET", str),
            issuer=read_setting("JWT_ISSUER", str, default="events-platform"),
            audience=read_setting("JWT_AUDIENCE", str, default="events-platform-api"),
            partner_audience=read_setting("JWT_PARTNER_AUDIENCE", str, default="events-platform-inbound"),
        )


@dataclass(frozen=True)
class TicketSettings:
    """The secret of the keys that sign tickets."""

    keys_secret: str

    @classmethod
    @cache
    def from_environment(cls) -> TicketSettings:
        return cls(keys_secret=read_setting("TICKET_KEYS_SECRET", str))


@dataclass(frozen=True)
class OutboxSettings:
    shards: int

    @classmethod
    @cache
    def from_environment(cls) -> OutboxSettings:
        return cls(shards=read_setting("OUTBOX_SHARDS", _positive, default=4, allowed="a whole number from 1"))


@dataclass(frozen=True)
class GateSettings:
    """`address_factor` multiplies the limits per address: 1 where each client has an address of its own."""

    address_factor: int

    @classmethod
    @cache
    def from_environment(cls) -> GateSettings:
        return cls(read_setting("RATE_LIMIT_ADDRESS_FACTOR", _positive, default=1, allowed="a whole number from 1"))


@dataclass(frozen=True)
class WebSocketSettings:
    """`callback_url` is the API's management endpoint: `https://{api}.execute-api.{region}.amazonaws.com/{stage}`."""

    callback_url: str

    @classmethod
    @cache
    def from_environment(cls) -> WebSocketSettings:
        return cls(callback_url=read_setting("WEBSOCKET_CALLBACK_URL", _url("http", "https")))


@dataclass(frozen=True)
class MailSettings:
    """`sender` is an address of a domain that SES has verified, alone or as `Name <address>`."""

    sender: str
    configuration_set: str

    @classmethod
    @cache
    def from_environment(cls) -> MailSettings:
        return cls(
            sender=read_setting("MAIL_FROM", str),
            configuration_set=read_setting("MAIL_CONFIGURATION_SET", str, default=""),
        )


@dataclass(frozen=True)
class WebClientSettings:
    """`url` is where the web client is, without a slash at the end: links in mails lead there."""

    url: str

    @classmethod
    @cache
    def from_environment(cls) -> WebClientSettings:
        return cls(url=read_setting("WEB_URL", _url("http", "https")).rstrip("/"))
