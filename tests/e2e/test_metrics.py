"""What alarms watch in a deployed stage is at `/metrics` here; and what breakers there are, in the health."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from local.triggers.aws import aws_client
from tests.support.platform import RunningPlatform
from tests.support.polling import eventually


def call(platform: RunningPlatform, function: str, **event: Any) -> Any:
    answer = aws_client("lambda", platform.endpoints["aws"]).invoke(
        FunctionName=function, Payload=json.dumps(event).encode()
    )
    assert "FunctionError" not in answer, answer["Payload"].read()
    return json.loads(answer["Payload"].read())


def samples(platform: RunningPlatform, name: str) -> dict[frozenset[tuple[str, str]], float]:
    families = text_string_to_metric_families(platform.http.get("/metrics").text)
    return {
        frozenset(sample.labels.items()): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def labelled(platform: RunningPlatform, name: str, label: str) -> dict[str, float]:
    return {dict(labels)[label]: value for labels, value in samples(platform, name).items()}


def test_a_sweep_tells_what_waits_in_each_shard(platform: RunningPlatform) -> None:
    call(platform, "RelayOutboxFunction")

    shards = {"0", "1", "2", "3"}
    eventually(lambda: labelled(platform, "outbox_depth", "shard").keys() == shards, what="the depth of each shard")
    assert labelled(platform, "outbox_age_seconds", "shard").keys() == shards


def test_registrations_are_counted_by_what_has_become_of_them(platform: RunningPlatform) -> None:
    def counted() -> dict[str, float]:
        return labelled(platform, "event_registrations_total", "status")

    before = counted()
    event_id = platform.create_event(platform.sign_up(), capacity=1)["id"]
    first, second = platform.sign_up(), platform.sign_up()
    for account in (first, second):
        platform.register(account, event_id)
    path = f"/v1/events/{event_id}/registrations/me"
    assert platform.http.delete(path, headers=first.headers).status_code == 204

    statuses = ("active", "waitlisted", "cancelled", "offered")
    eventually(lambda: all(counted().get(each, 0) > before.get(each, 0) for each in statuses), what="each status")


def test_the_room_for_months_to_come_is_told_by_schema(platform: RunningPlatform) -> None:
    for function in ("ExtendOutboxFunction", "CreatePartitionsFunction"):
        assert call(platform, function) == {"made": []}

    ahead = eventually(lambda: labelled(platform, "partition_months_ahead", "schema"), what="the months")
    assert ahead == {"messaging": 2.0, "registrations": 2.0}


def test_an_environment_shows_its_breakers_and_tells_when_one_opens(platform: RunningPlatform) -> None:
    def breakers() -> dict[str, dict[str, Any]]:
        report: dict[str, Any] = platform.http.get("/health").json()
        found: dict[str, dict[str, Any]] = report["breakers"]
        return found

    engines = {"postgres", "redis", "opensearch", "kafka", "nats"}
    eventually(lambda: {name: each["state"] for name, each in breakers().items()} == dict.fromkeys(engines, "closed"))
    opened = labelled(platform, "breaker_open_total", "dependency").get("opensearch", 0.0)

    with platform.engine_frozen("opensearch"):
        # Each look is a probe of its own and waits two seconds for it; its own request may take three.
        eventually(lambda: breakers()["opensearch"]["state"] == "open", within=30, what="an open breaker")
        assert labelled(platform, "breaker_open_total", "dependency")["opensearch"] == opened + 1

    eventually(lambda: breakers()["opensearch"]["state"] == "closed", within=30, what="a closed breaker")
