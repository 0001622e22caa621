"""The routes between Kafka and NATS and the template say the same."""

from __future__ import annotations

from eventsplatform.messaging.model import INBOUND_TOPIC
from eventsplatform.messaging.routes_file import platform_routes
from tests.support.application import template_application

APPLICATION = template_application()


def consumed_by(function: str) -> set[str]:
    return {topic for each in APPLICATION.kafka_mappings if each.function == function for topic in each.topics}


def test_every_topic_that_is_bridged_has_a_route_and_none_is_bridged_back() -> None:
    routed = {topic for route in platform_routes().to_nats for topic in route.topics}

    assert consumed_by("BridgeToNatsFunction") <= routed
    assert INBOUND_TOPIC not in routed


def test_what_other_services_hear_of_outside_ones_do_too() -> None:
    others = {topic for each in APPLICATION.kafka_mappings for topic in each.topics} - {INBOUND_TOPIC}

    assert consumed_by("BridgeToNatsFunction") == others


def test_there_is_a_run_for_each_shard() -> None:
    runs = [schedule for schedule in APPLICATION.schedules if schedule.function == "BridgeFromNatsFunction"]

    assert len(runs) == len(platform_routes().shards)
