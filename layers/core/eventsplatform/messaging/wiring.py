"""The relay and the bridge, connected to Postgres, Kafka and NATS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from eventsplatform.config import read_setting
from eventsplatform.messaging.backlog import Backlog, BacklogReport
from eventsplatform.messaging.bridge_from_nats import BridgeFromNats
from eventsplatform.messaging.bridge_to_nats import BridgeToNats
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.history import History
from eventsplatform.messaging.inbox import CommandRecords
from eventsplatform.messaging.months import OutboxMonths
from eventsplatform.messaging.records import Records
from eventsplatform.messaging.relay import Relay
from eventsplatform.messaging.replay import Replay, Sending
from eventsplatform.messaging.replies import Replies
from eventsplatform.observability import emit_metric


def _relay() -> Relay:
    from eventsplatform.adapters.kafka import KafkaMessage, kafka_producer
    from eventsplatform.adapters.postgres import database
    from eventsplatform.messaging.repository import PostgresRelayStore

    def send(messages: Sequence[tuple[str, Message]]) -> list[bool]:
        return kafka_producer().send(
            [
                KafkaMessage(topic, key=message.partitionkey, value=message.to_json(), headers=message.to_headers())
                for topic, message in messages
            ]
        )

    return Relay(PostgresRelayStore(database()), send)


def _backlog_report() -> BacklogReport:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.messaging.repository import PostgresRelayStore

    def tell(shard: int, backlog: Backlog) -> None:
        emit_metric("outbox_depth", backlog.depth, unit=MetricUnit.NoUnit, shard=str(shard))
        emit_metric("outbox_age_seconds", backlog.age_seconds, unit=MetricUnit.NoUnit, shard=str(shard))

    return BacklogReport(PostgresRelayStore(database()), tell)


def _bridge_to_nats() -> BridgeToNats:
    from eventsplatform.adapters.nats import nats_connection
    from eventsplatform.messaging.routes_file import platform_routes

    return BridgeToNats(platform_routes(), nats_connection())


def _bridge_from_nats() -> BridgeFromNats:
    from eventsplatform.adapters.kafka import kafka_producer
    from eventsplatform.adapters.nats import nats_connection
    from eventsplatform.adapters.postgres import database
    from eventsplatform.messaging.bridge_repository import PostgresLeaseStore
    from eventsplatform.messaging.dead_letters import dead_letter_topic
    from eventsplatform.messaging.inbound_records import InboundRecords
    from eventsplatform.messaging.jetstream_source import JetStreamSource
    from eventsplatform.messaging.routes_file import platform_routes

    routes = platform_routes()
    return BridgeFromNats(
        routes.shards,
        PostgresLeaseStore(database()),
        JetStreamSource(nats_connection()),
        InboundRecords(routes, dead_letter_topic(read_setting("CONSUMER_GROUP", str))),
        kafka_producer().start,
    )


def _records() -> Records:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.messaging.records_repository import PostgresRecords

    return Records(PostgresRecords(database()))


def _history() -> History:
    from eventsplatform.adapters.postgres import database
    from eventsplatform.messaging.history_repository import PostgresHistory

    return History(PostgresHistory(database()))


def _months() -> OutboxMonths:
    from eventsplatform.adapters.partitions import PostgresMonths
    from eventsplatform.adapters.postgres import database
    from eventsplatform.clock import utc_now
    from eventsplatform.messaging.repository import OUTBOX

    return OutboxMonths(PostgresMonths(database(), OUTBOX), utc_now)


def _replay() -> Replay:
    from eventsplatform.adapters.kafka import KafkaMessage, TopicReader, kafka_producer
    from eventsplatform.adapters.postgres import database
    from eventsplatform.clock import utc_now
    from eventsplatform.config import KafkaSettings
    from eventsplatform.messaging.dead_letters import KafkaDeadLetters
    from eventsplatform.messaging.replay_repository import PostgresEventStore

    def send(sendings: Sequence[Sending]) -> list[bool]:
        return kafka_producer().send(
            [KafkaMessage(each.topic, each.key, each.message.to_json(), each.message.to_headers()) for each in sendings]
        )

    letters = KafkaDeadLetters(TopicReader(KafkaSettings.from_environment()))
    return Replay(PostgresEventStore(database()), letters, send, utc_now)


def _command_records() -> CommandRecords:
    from eventsplatform.adapters.postgres import database

    return CommandRecords(database())


def _replies() -> Replies:
    from eventsplatform.adapters.nats import nats_connection

    return Replies(nats_connection())


FACTORIES: dict[type, Callable[[], Any]] = {
    Relay: _relay,
    BacklogReport: _backlog_report,
    BridgeFromNats: _bridge_from_nats,
    BridgeToNats: _bridge_to_nats,
    Records: _records,
    History: _history,
    OutboxMonths: _months,
    Replay: _replay,
    CommandRecords: _command_records,
    Replies: _replies,
}
