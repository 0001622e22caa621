"""Kafka through librdkafka: an idempotent producer whose every delivery report is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from eventsplatform.config import KafkaSettings
from eventsplatform.observability import logger

if TYPE_CHECKING:
    from confluent_kafka import Producer

DELIVERY_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class KafkaMessage:
    topic: str
    key: str | bytes
    value: bytes
    headers: Mapping[str, str]


def client_configuration(settings: KafkaSettings) -> dict[str, Any]:
    """What producers and consumers share: addresses and, on MSK, IAM authentication over TLS."""
    configuration: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 1_000,
    }
    if settings.iam_authentication:
        configuration |= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "OAUTHBEARER",
            "oauth_cb": _msk_token,
        }
    return configuration


def _msk_token(_config: str) -> tuple[str, float]:
    import os

    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider

    token, expiry_ms = MSKAuthTokenProvider.generate_auth_token(os.environ["AWS_REGION"])
    return token, expiry_ms / 1000


class KafkaProducer:
    """`acks=all` and idempotent: within one producer session nothing is duplicated or reordered per partition."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: Producer | None = None

    def send(
        self, messages: Sequence[KafkaMessage], *, timeout_seconds: float = DELIVERY_TIMEOUT_SECONDS
    ) -> list[bool]:
        """Whether each message, in the order given, was acknowledged by all in-sync replicas.

        A message without a report when the time is up counts as not acknowledged: it may still have
        arrived, so consumers must be idempotent.
        """
        from confluent_kafka import KafkaException

        producer = self._opened()
        acknowledged = [False] * len(messages)
        for index, message in enumerate(messages):
            try:
                producer.produce(
                    message.topic,
                    key=message.key,
                    value=message.value,
                    headers=dict(message.headers),
                    on_delivery=_mark(acknowledged, index),
                )
            except BufferError:
                # The local queue is full: the rest stays unacknowledged and is sent by the next round.
                break
            except KafkaException as error:
                # Refused before it was sent (too large): it stays unacknowledged, the others do not wait for it.
                _mark(acknowledged, index)(error, None)
            producer.poll(0)
        if producer.flush(timeout_seconds):
            # What is still queued must not be delivered later, behind messages of the next round.
            producer.purge()
            producer.flush(1)
            self._producer = None
        return acknowledged

    def _opened(self) -> Producer:
        if self._producer is None:
            from confluent_kafka import Producer

            self._producer = Producer(
                client_configuration(self._settings)
                | {
                    "acks": "all",
                    "enable.idempotence": True,
                    "linger.ms": 2,
                    "delivery.timeout.ms": int(DELIVERY_TIMEOUT_SECONDS * 1000),
                    "error_cb": _log_error,
                }
            )
        return self._producer


def _mark(acknowledged: list[bool], index: int) -> Any:
    def on_delivery(error: Any, _message: Any) -> None:
        if error is None:
            acknowledged[index] = True
        else:
            logger.warning("kafka did not acknowledge a message", extra={"error": str(error)})

    return on_delivery


def _log_error(error: Any) -> None:
    logger.warning("kafka client error", extra={"error": str(error)})


@cache
def kafka_producer() -> KafkaProducer:
    return KafkaProducer(KafkaSettings.from_environment())


@cache
def kafka_admin() -> Any:
    from confluent_kafka.admin import AdminClient

    admin = AdminClient(client_configuration(KafkaSettings.from_environment()) | {"error_cb": _log_error})
    admin.poll(0)  # has the authentication token made, which blocking calls do not
    return admin
