"""Messages both ways while everything that carries them is killed, frozen and cut off: all arrive, in order, once.

`CHAOS_MESSAGES` says how many each way (`make chaos`: 100,000).
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest
from confluent_kafka import Producer

from eventsplatform.messaging.dead_letters import dead_letter_topic
from local.application import Function
from tests.e2e.convergence import converged
from tests.support.application import template_application
from tests.support.both_ways import BothWays, publish
from tests.support.chaos import Chaos, Misfortune, cutting_off, freezing, killing_engine, killing_function, settled
from tests.support.kafka import dead_letters
from tests.support.platform import RunningPlatform, copied_sources, platform_running
from tests.support.polling import eventually
from tests.support.unreliable_kafka import unreliable_kafka

MESSAGES = int(os.environ.get("CHAOS_MESSAGES", "5000"))
TOPIC = "evp.events.v1"
POISON = 5

# Each misfortune comes at least so often, whatever the dice say, while there is traffic.
LEAST_SUFFERED = 2
# What was killed leaves a lease for others to wait for, and schedules have a minute.
ARRIVAL_SECONDS = 600 + MESSAGES / 20

pytestmark = pytest.mark.timeout(3_000 + MESSAGES)


def carriers(platform: RunningPlatform) -> dict[str, Misfortune]:
    """SIGKILL for whatever carries messages or does what they ask for, and for NATS."""
    functions = (
        "messaging/relay_outbox",
        "messaging/bridge_to_nats",
        "messaging/bridge_from_nats",
        "catalog/handle_event_commands",
    )
    killed = {directory: killing_function(platform, directory) for directory in functions}
    return {**killed, "nats": killing_engine(platform, "nats")}


def run_into(chaos: Chaos, traffic: BothWays) -> None:
    """All is written and sent while the chaos reigns, and each misfortune has come at least so often."""

    def too_calm() -> list[str]:
        rare = [name for name in chaos.names if chaos.suffered[name] < LEAST_SUFFERED]
        return [f"{name} came {chaos.suffered[name]} times" for name in rare if not chaos.failures]

    with traffic.flowing() as is_sent:
        with chaos.reigning():
            settled(lambda: [] if is_sent() else ["still writing"], within=ARRIVAL_SECONDS)
            settled(too_calm, within=ARRIVAL_SECONDS)
        assert (chaos.failures, traffic.failures) == ([], [])
        settled(traffic.wrong_effects, within=ARRIVAL_SECONDS)
        settled(traffic.unanswered, within=ARRIVAL_SECONDS)
        converged(traffic.platform, within=ARRIVAL_SECONDS)
    assert traffic.out_of_order() == []
    assert traffic.platform.differences() == []


class Poison:
    """Records on a topic of the platform's that are no messages, and messages from outside that are none."""

    def __init__(self, platform: RunningPlatform, kafka: str) -> None:
        self._kafka = kafka
        self._records = {b'{"planted": "on %s", "number": %d}' % (TOPIC.encode(), number) for number in range(POISON)}
        self._messages = {b"planted, and no JSON: %d" % number for number in range(POISON)}
        producer = Producer({"bootstrap.servers": kafka})
        for content in self._records:
            producer.produce(TOPIC, content, key=b"1")
        assert producer.flush(10) == 0
        asyncio.run(publish(platform.endpoints["nats"], "inbound.planted", self._messages))

    def put_aside(self) -> list[str]:
        """What of it is not where it should be, and whatever else is there."""
        application = template_application()
        readers = {mapping.function for mapping in application.kafka_mappings if TOPIC in mapping.topics}
        wanted = {_dead_letters_of(application.functions[name]): self._records for name in readers}
        wanted[_dead_letters_of(application.functions["BridgeFromNatsFunction"])] = self._messages
        found = dead_letters(self._kafka)
        return [
            f"{topic} holds {sorted(found.get(topic, ()))}, and should {sorted(wanted.get(topic, ()))}"
            for topic in sorted(wanted.keys() | found.keys())
            if found.get(topic, set()) != wanted.get(topic, set())
        ]


def _dead_letters_of(function: Function) -> str:
    return dead_letter_topic(function.environment["CONSUMER_GROUP"])


def test_everything_arrives_in_order_and_once_whatever_is_killed_frozen_or_cut_off(tmp_path: Path) -> None:
    with (
        unreliable_kafka() as kafka,
        platform_running(tmp_path, environment={"KAFKA_BOOTSTRAP_SERVERS": kafka.address}) as platform,
    ):
        poison = Poison(platform, kafka.address)
        misfortunes = {**carriers(platform), "kafka frozen": freezing(kafka), "kafka cut off": cutting_off(kafka)}

        run_into(Chaos(misfortunes, seed=7), BothWays(platform, MESSAGES))

        settled(poison.put_aside, within=ARRIVAL_SECONDS)


def test_a_broker_that_loses_all_it_had_is_filled_again_from_both_sides(tmp_path: Path) -> None:
    """The embedded one has no disk: killed, it comes back empty."""
    with platform_running(tmp_path) as platform:
        misfortunes = {**carriers(platform), "kafka": killing_engine(platform, "kafka")}

        run_into(Chaos(misfortunes, seed=8), BothWays(platform, MESSAGES // 5))


def test_without_the_record_of_what_was_done_commands_are_carried_out_again(tmp_path: Path) -> None:
    """The control: commands are delivered again, and it is their record that keeps them from having another effect."""
    sources = copied_sources(tmp_path / "sources")
    commands = sources / "layers/core/eventsplatform/entrypoints/commands.py"
    text = commands.read_text()
    for guard, without in (
        ("known = records.outcome_of(request)", "known = None"),
        ("with handling_request(request):", "with handling_request(None):"),
    ):
        assert guard in text
        text = text.replace(guard, without)
    commands.write_text(text)
    with platform_running(tmp_path / "state", root=sources) as platform:
        traffic = BothWays(platform, MESSAGES)
        kill = killing_function(platform, "catalog/handle_event_commands")

        def repeated_after_a_death() -> list[str]:
            """In the middle of a batch, which is then delivered again."""
            done = traffic.made()
            eventually(lambda: traffic.made() > done, within=ARRIVAL_SECONDS, every=0.01, what="a command at work")
            kill(random.Random())
            return traffic.repeated()

        with traffic.flowing():
            eventually(repeated_after_a_death, within=ARRIVAL_SECONDS, what="a command that was carried out twice")
