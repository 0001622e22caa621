"""A loop that somebody has planted: the same subjects are routed out and back in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from eventsplatform.adapters.kafka import KafkaMessage, KafkaProducer
from eventsplatform.adapters.nats import NatsConnection
from eventsplatform.config import KafkaSettings, NatsSettings
from eventsplatform.messaging.bridge_to_nats import BridgeToNats
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import Batch
from eventsplatform.messaging.routes import Routes
from eventsplatform.messaging.routes_file import KNOWN_TOPICS, read_routes
from local.engines import Endpoints
from local.triggers import ensure_topics
from tests.support.inbound import Inbound, once
from tests.support.lambda_events import message

LOOP = """\
platform: {name}
streams:
  {STREAM}: {{subjects: [{name}.>], max_age_hours: 1, duplicate_window_minutes: 1, max_message_kib: 100}}
kafka_to_nats:
  - {{route: out, topics: [evp-{name}.v1], stream: {STREAM}, subject: "{name}.{{message.type>}}.{{message.subject}}"}}
nats_to_kafka:
  - route: back
    shard: {name}
    subject: {name}.{{domain}}.{{what}}.{{entity}}
    topic: evp-{name}.v1
    type: "{{domain}}.{{what}}"
    key: "{{entity}}"
    may_loop: true
"""


class Loop:
    """Kafka → NATS → Kafka, turn by turn."""

    def __init__(self, inbound: Inbound) -> None:
        self.inbound = inbound
        self._out = BridgeToNats(inbound.routes, NatsConnection(NatsSettings(inbound.endpoints.nats, "")))
        self._back = inbound.bridge()
        self._forwarded: dict[int, int] = {}

    def begin(self, told: Message) -> None:
        producer = KafkaProducer(KafkaSettings(self.inbound.endpoints.kafka, iam_authentication=False))
        assert producer.send([KafkaMessage(self.inbound.topic, told.partitionkey, told.to_json(), told.to_headers())])

    def turn(self) -> None:
        """What is new in the topic goes out, and what is new in the stream comes back."""
        new = [each for each in self.inbound.records() if each.offset() > self._forwarded.get(each.partition(), -1)]
        messages = [Message.from_json(each.value() or b"") for each in new]
        if messages:
            assert self._out.forward([Batch(self.inbound.topic, messages)]) == [(len(messages), None)]
        self._forwarded |= {each.partition(): each.offset() for each in new}
        self._back.run(once())

    @property
    def size(self) -> tuple[int, int]:
        """How many messages the topic and the stream have."""
        return len(self.inbound.records()), len(self.inbound.stored())


@pytest.fixture
def loop(endpoints: Endpoints, migrated_database: str, tmp_path: Path) -> Iterator[Loop]:
    name = f"loop{uuid4().hex[:8]}"
    path = tmp_path / "routes.yaml"
    path.write_text(LOOP.format(name=name, STREAM=name.upper()))
    ensure_topics(endpoints.kafka, [f"evp-{name}.v1", f"evp-{name}.dlt"])
    inbound = Inbound(endpoints, read_routes(path, topics={*KNOWN_TOPICS, f"evp-{name}.v1"}), name)
    made = Loop(inbound)
    made._back.run(once())
    try:
        yield made
    finally:
        for database in inbound.databases:
            database.close()


def test_a_planted_loop_stops_at_its_first_turn_and_raises_the_alarm(
    loop: Loop, metrics: Callable[[], list[dict[str, Any]]]
) -> None:
    loop.begin(message(7))

    loop.turn()
    counted = {name: line for line in metrics() for name in line if name.startswith("bridge_")}
    loop.turn()

    assert loop.size == (1, 1)
    assert counted["bridge_loops_total"]["bridge_loops_total"] == [1]
    assert counted["bridge_loops_total"]["route"] == "back"


def test_a_loop_through_systems_that_forget_where_a_message_was_ends_by_its_hops(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = Routes.mark
    monkeypatch.setattr(Routes, "mark", lambda self, each: {**mark(self, each), "via": "", "id": uuid4().hex})
    loop.begin(message(7))

    for _ in range(6):
        loop.turn()

    assert sum(loop.size) == 1 + 5


def test_without_the_guard_it_goes_round_for_ever(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control. Neither end knows the message again: the id changes, as with any system in between."""
    monkeypatch.setattr(Routes, "is_loop", lambda self, each: False)
    mark = Routes.mark
    monkeypatch.setattr(Routes, "mark", lambda self, each: {**mark(self, each), "id": uuid4().hex})
    loop.begin(message(7))

    for turns in range(1, 5):
        loop.turn()
        assert loop.size == (turns + 1, turns)
