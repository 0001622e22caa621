"""Kafka through librdkafka: an idempotent producer whose every delivery report is looked at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from eventsplatform.adapters.breakers import breaker
from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.config import KafkaSettings, read_setting
from eventsplatform.errors import DependencyUnavailableError, NotFoundError
from eventsplatform.observability import logger
from eventsplatform.transactions import require_no_locks

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

DELIVERY_TIMEOUT_SECONDS = CALL_POLICIES["kafka"].timeout
# Of key, value and headers. Brokers take 1,048,588 unless told otherwise, so a dead letter has room for what is said
# about it (https://kafka.apache.org/documentation/#brokerconfigs_message.max.bytes).
MESSAGE_BYTES = 1_000_000
DEAD_LETTER_BYTES = 1_040_000
LOSS_NOTICED_WITHIN_SECONDS = 0.1


class KafkaMessage(NamedTuple):
    """A key or value that is None is Kafka's null. Headers may come in pairs, for one name may come twice."""

    topic: str
    key: str | bytes | None
    value: bytes | None
    headers: dict[str, str] | list[tuple[str, str | bytes | None]]


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
    """A token that the function's role has signed, and when it expires, in seconds since the epoch."""
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider

    token, expiry_ms = MSKAuthTokenProvider.generate_auth_token(read_setting("AWS_REGION", str))
    return token, expiry_ms / 1000


class KafkaProducer:
    """`acks=all` and idempotent: within one session nothing is duplicated or reordered per partition.

    A session ends when all brokers have gone: those that come back may not know its id, and librdkafka would then
    try for ever to be taken for who it was.
    """

    def __init__(self, settings: KafkaSettings, *, message_bytes: int = MESSAGE_BYTES) -> None:
        self._settings = settings
        self._message_bytes = message_bytes
        self._session: _Session | None = None

    def send(
        self, messages: Sequence[KafkaMessage], *, timeout_seconds: float = DELIVERY_TIMEOUT_SECONDS
    ) -> list[bool]:
        """Whether each message, in the order given, was acknowledged by all in-sync replicas.

        A message without a report when the time is up counts as not acknowledged: it may still have
        arrived, so consumers must be idempotent. While Kafka's breaker is open none is sent.
        """
        return self.start(messages, timeout_seconds=timeout_seconds)()

    def start(
        self, messages: Sequence[KafkaMessage], *, timeout_seconds: float = DELIVERY_TIMEOUT_SECONDS
    ) -> Callable[[], list[bool]]:
        """As `send`, in two steps: librdkafka sends while the caller does other things, and then asks what this
        returns, before it starts more. After a failure, and at first, they are sent when it asks.
        """
        require_no_locks("Kafka")
        deadline = time.monotonic() + timeout_seconds
        acknowledged = [False] * len(messages)
        session = self._session if breaker("kafka").closed else None
        if session is not None and session.is_live():
            session.queue(messages, acknowledged)
        else:
            session = None

        def finish() -> list[bool]:
            require_no_locks("Kafka")
            try:
                with breaker("kafka"):
                    self._finish(session, messages, acknowledged, deadline)
            except DependencyUnavailableError as error:
                logger.warning("kafka did not take all messages", extra={"error": str(error.__cause__ or error)})
            return acknowledged

        return finish

    def _finish(
        self, session: _Session | None, messages: Sequence[KafkaMessage], acknowledged: list[bool], deadline: float
    ) -> None:
        """`session` has been started with. Raises DependencyUnavailableError when the time is up, or no broker answers
        in it.
        """
        from confluent_kafka import KafkaException

        while True:
            if session is None:
                try:
                    session = self._live_session(deadline)
                except KafkaException as error:
                    raise DependencyUnavailableError("message broker") from error
                session.queue(messages, acknowledged)
            session.wait(deadline)
            if session.live or all(acknowledged):
                return
            if time.monotonic() > deadline:
                raise DependencyUnavailableError("message broker")
            session = None

    def _live_session(self, deadline: float) -> _Session:
        """The present session, or the next one when it has ended. Raises KafkaException when no broker answers."""
        if self._session is None or not self._session.is_live():
            self._session = None
            self._session = _Session(self._settings, deadline, self._message_bytes)
        return self._session


class _Session:
    """One librdkafka producer, from the moment at which a broker has answered it to the loss of all brokers."""

    def __init__(self, settings: KafkaSettings, deadline: float, message_bytes: int) -> None:
        """Raises KafkaException when no broker answers in time."""
        from confluent_kafka import Producer

        self._producer = Producer(
            client_configuration(settings)
            | {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 2,
                "message.max.bytes": message_bytes,
                "delivery.timeout.ms": int(DELIVERY_TIMEOUT_SECONDS * 1000),
                "error_cb": self._on_error,
            }
        )
        self._producer.poll(0)  # has the authentication token made, which the next call does not
        # Without a broker to ask, librdkafka would look for its id again only after half a second.
        self._producer.list_topics(timeout=max(0.1, deadline - time.monotonic()))
        self._producer.poll(0)
        self.live = True

    def is_live(self) -> bool:
        """Whether a broker was there all the time, between the calls as well."""
        self._producer.poll(0)
        return self.live

    def queue(self, messages: Sequence[KafkaMessage], acknowledged: list[bool]) -> None:
        """Have sent what is not acknowledged yet; `wait` notes in `acknowledged` what was."""
        from confluent_kafka import KafkaException

        for index, message in enumerate(messages):
            if acknowledged[index]:
                continue
            try:
                self._producer.produce(
                    message.topic,
                    key=message.key,
                    value=message.value,
                    headers=message.headers,  # type: ignore[arg-type]  # dict[str, str] is read here alone
                    on_delivery=self._report(acknowledged, index),
                )
            except BufferError:
                # The local queue is full: the rest stays unacknowledged and is sent by the next round.
                break
            except KafkaException as error:
                # Refused before it was sent (too large): it stays unacknowledged, the others do not wait for it.
                logger.warning("kafka did not take a message", extra={"error": str(error)})

    def wait(self, deadline: float) -> None:
        """For the reports of all. Polled for after each message, they more than double the processor time."""
        while self._producer.flush(LOSS_NOTICED_WITHIN_SECONDS):
            if not self.live or time.monotonic() > deadline:
                self._give_up()

    def _give_up(self) -> None:
        """What is still queued must not be delivered later, behind messages of the next round."""
        self.live = False
        self._producer.purge()
        self._producer.flush(1)

    def _report(self, acknowledged: list[bool], index: int) -> Callable[[KafkaError | None, Message], None]:
        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            if error is None:
                acknowledged[index] = True
                return
            logger.warning("kafka did not acknowledge a message", extra={"error": str(error)})
            if error.code() == error._MSG_TIMED_OUT:
                self.live = False

        return on_delivery

    def _on_error(self, error: KafkaError) -> None:
        logger.warning("kafka client error", extra={"error": str(error)})
        if error.fatal() or error.code() == error._ALL_BROKERS_DOWN:
            self.live = False


class TopicReader:
    """Reads what a topic holds, without a consumer group: nobody's place in it changes."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def read(
        self, topic: str, after: Mapping[int, int], limit: int, *, timeout_seconds: float = DELIVERY_TIMEOUT_SECONDS
    ) -> tuple[list[Message], dict[int, int], bool]:
        """At most so many records behind the offsets, the next offset of each partition, and whether it is the end.

        A partition that is not in `after` is read from its beginning. Raises NotFoundError for a topic that is not
        there, DependencyUnavailableError when Kafka does not answer.
        """
        require_no_locks("Kafka")
        with breaker("kafka"):
            return self._read(topic, after, limit, timeout_seconds)

    def _read(
        self, topic: str, after: Mapping[int, int], limit: int, timeout_seconds: float
    ) -> tuple[list[Message], dict[int, int], bool]:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

        deadline = time.monotonic() + timeout_seconds
        consumer = Consumer(
            client_configuration(self._settings)
            | {
                "group.id": "evp-reader",  # librdkafka wants one; nothing is committed under it
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,
                "error_cb": _log_error,
            }
        )
        try:
            consumer.poll(0)  # has the authentication token made, which the next call does not
            found = consumer.list_topics(topic, timeout=timeout_seconds).topics[topic]
            if found.error is not None or not found.partitions:
                raise NotFoundError(f"There is no topic {topic}.")
            reached = {number: after.get(number, OFFSET_BEGINNING) for number in found.partitions}
            consumer.assign([TopicPartition(topic, number, offset) for number, offset in reached.items()])
            return self._poll(consumer, reached, limit, deadline)
        except KafkaException as error:
            raise DependencyUnavailableError("message broker") from error
        finally:
            consumer.close()

    @staticmethod
    def _poll(
        consumer: Any, reached: dict[int, int], limit: int, deadline: float
    ) -> tuple[list[Message], dict[int, int], bool]:
        from confluent_kafka import KafkaError, KafkaException

        unread = set(reached)
        records: list[Message] = []
        while unread and len(records) < limit:
            record = consumer.poll(0.2)
            if record is None:
                if time.monotonic() > deadline:
                    raise DependencyUnavailableError("message broker")
            elif record.error() is None:
                records.append(record)
                reached[record.partition()] = record.offset() + 1
            elif record.error().code() == KafkaError._PARTITION_EOF:
                unread.discard(record.partition())
            else:
                raise KafkaException(record.error())
        return records, reached, not unread


def _log_error(error: Any) -> None:
    logger.warning("kafka client error", extra={"error": str(error)})


@cache
def kafka_producer() -> KafkaProducer:
    return KafkaProducer(KafkaSettings.from_environment())


@cache
def dead_letter_producer() -> KafkaProducer:
    return KafkaProducer(KafkaSettings.from_environment(), message_bytes=DEAD_LETTER_BYTES)


def ping_kafka(within_seconds: float) -> None:
    """Raises DependencyUnavailableError when no broker answers."""
    from confluent_kafka import KafkaException

    with breaker("kafka"):
        try:
            kafka_admin().list_topics(timeout=within_seconds)
        except KafkaException as error:
            raise DependencyUnavailableError("message broker") from error


@cache
def kafka_admin() -> Any:
    from confluent_kafka.admin import AdminClient

    admin = AdminClient(client_configuration(KafkaSettings.from_environment()) | {"error_cb": _log_error})
    admin.poll(0)  # has the authentication token made, which blocking calls do not
    return admin
