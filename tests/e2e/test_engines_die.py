"""Each engine in turn stops answering, or dies, while the platform is used.

Frozen engines (SIGSTOP) show how the API answers meanwhile, killed ones (SIGKILL) that nothing is lost and that
everything agrees again afterwards.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from eventsplatform.gate.store import COMPLETE
from local.triggers.aws import aws_client
from tests.e2e.convergence import converged, history_of
from tests.e2e.traffic import Traffic, traffic
from tests.support.platform import Account, RunningPlatform, event_fields
from tests.support.polling import eventually

ENGINES = ("postgres", "redis", "kafka", "nats", "opensearch", "aws")


@pytest.fixture(scope="module")
def people(platform: RunningPlatform) -> list[Account]:
    return [platform.sign_up(name) for name in ("Ada", "Ben", "Cem", "Dua")]


@contextmanager
def restored(platform: RunningPlatform, people: list[Account], engine: str) -> Iterator[Traffic]:
    """Traffic before, within and after; then nothing may be lost, and all engines agree."""
    with traffic(platform, people) as running:
        yield running
        running.flows()
    assert not running.lost(platform)
    _, seconds = converged(platform)
    print(f"{engine}: all agree {seconds:.1f} s after the last request; answers {dict(running.answers)}")


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["type"] == "urn:events-platform:problem:dependency_unavailable"


def health(platform: RunningPlatform) -> tuple[int, str, set[str]]:
    """Status code, overall status, and which engines are unhealthy."""
    answer = platform.http.get("/health")
    report = answer.json()
    unhealthy = {name for name, check in report["checks"].items() if check["status"] == "unhealthy"}
    return answer.status_code, report["status"], unhealthy


def pending(platform: RunningPlatform) -> int:
    (row,) = platform.sql("SELECT count(*) AS pending FROM messaging.outbox WHERE published_at IS NULL")
    return int(row["pending"])


# ---------------------------------------------------------------------------------- the check itself


def test_the_check_sees_whatever_is_missing_repeated_or_out_of_date(
    platform: RunningPlatform, people: list[Account]
) -> None:
    # Given engines that agree on some history
    event = platform.create_event(people[0])
    platform.register(people[1], event["id"])
    history, _ = converged(platform)
    some_change = next(iter(history.changes))

    # When anything of it is changed
    spoiled: dict[str, dict[str, Any]] = {
        "pending in the outbox": {"pending": 1},
        "never told over NATS": {"told": history.told - Counter([some_change])},
        "told over NATS more than once": {"told": history.told + Counter([some_change])},
        "missing or outdated in the index": {"indexed": {**history.indexed, event["id"]: 1}},
        "in the index alone": {"indexed": {**history.indexed, 0: 1}},
        "counts that a recount does not give": {"shown": {**history.shown, event["id"]: (0, 0)}},
    }

    # Then the check says so
    assert history.differences() == []
    for what, changes in spoiled.items():
        (difference,) = dataclasses.replace(history, **changes).differences()
        assert difference.startswith(what)


# ---------------------------------------------------------------------------------- Postgres


def test_while_postgres_does_not_answer_requests_are_told_to_come_back(
    platform: RunningPlatform, people: list[Account]
) -> None:
    event = platform.create_event(people[0])
    with httpx.Client(base_url=platform.endpoints["gateway"], timeout=32, trust_env=False) as client:

        def write() -> httpx.Response:
            return client.post("/v1/events", headers=people[0].headers, json=event_fields())

        # Given functions that have been at work: one that hangs is waited for longer than one that does not open.
        with copied_revocations(platform, renew_after_seconds=None):
            assert write().status_code == 201

        with platform.engine_frozen("postgres"), ThreadPoolExecutor() as threads:
            read = threads.submit(platform.http.get, f"/v1/events/{event['id']}")
            # The longest way: the gate asks identity, which waits, and then the endpoint waits itself.
            with copied_revocations(platform, renew_after_seconds=-1):
                writes = [write()]
            # Nobody can tell whether the session is live.
            with copied_revocations(platform, renew_after_seconds=None):
                writes.append(write())
            status = health(platform)

        for answer in (read.result(), *writes):
            assert_unavailable(answer)
        assert status == (503, "unhealthy", {"database", "partitions"})
        eventually(lambda: platform.http.get(f"/v1/events/{event['id']}").status_code == 200, what="the event again")
        eventually(lambda: write().status_code == 201, within=30, what="writing again")


@contextmanager
def copied_revocations(platform: RunningPlatform, *, renew_after_seconds: float | None) -> Iterator[None]:
    """While the gate's copy of what has ended is whole, and is to be renewed then; or while there is none."""
    with redis.Redis.from_url(platform.endpoints["redis"]) as client:
        if renew_after_seconds is None:
            client.delete(COMPLETE)
        else:
            client.set(COMPLETE, int((time.time() + renew_after_seconds) * 1e6), ex=60)
        yield
        client.delete(COMPLETE)


def test_nothing_acknowledged_is_lost_when_postgres_is_killed(platform: RunningPlatform, people: list[Account]) -> None:
    with restored(platform, people, "postgres") as running, platform.engine_killed("postgres"):
        pass
    assert not running.failures


# ---------------------------------------------------------------------------------- Redis


def test_without_redis_only_the_rooms_are_closed(platform: RunningPlatform, people: list[Account]) -> None:
    ada, ben, cem, _ = people
    event = platform.create_event(ada)
    room = f"event:{event['id']}"
    with platform.socket(ben) as live:
        joined = live.request("join", room=room)

        # When Redis does not answer
        with platform.engine_frozen("redis"):
            # Then everything over REST works, and rooms say that they do not
            assert platform.http.get(f"/v1/events/{event['id']}").status_code == 200
            assert platform.http.get("/v1/search/events").status_code == 200
            platform.register(ben, event["id"])
            refused = live.request("join", room=room)
            assert (refused["type"], refused["code"]) == ("error", "dependency_unavailable")
            assert health(platform) == (200, "degraded", {"redis"})

        # And when it has come back without its memory, a room begins anew and says so
        with platform.engine_killed("redis"):
            pass
        since = {"epoch": joined["epoch"], "offset": joined["offset"]}
        again = live.request("join", room=room, since=since)
        assert again["type"] == "joined"
        assert again["epoch"] != joined["epoch"]
        assert again["recovered"] is False
        platform.register(cem, event["id"])
        while (pushed := live.next_push("registrations.created"))["data"]["registered"] < 2:
            assert pushed["epoch"] == again["epoch"]


def test_no_request_fails_when_redis_is_killed(platform: RunningPlatform, people: list[Account]) -> None:
    with restored(platform, people, "redis") as running, platform.engine_killed("redis"):
        running.flows()
    assert running.answers.keys() <= {200, 201}, running.failures


# ---------------------------------------------------------------------------------- Kafka


def test_while_kafka_does_not_answer_changes_wait_in_the_outbox(
    platform: RunningPlatform, people: list[Account]
) -> None:
    with platform.engine_frozen("kafka"):
        event = platform.create_event(people[0])
        platform.register(people[1], event["id"])
        assert pending(platform) >= 3
        assert health(platform) == (503, "unhealthy", {"kafka"})

    converged(platform)


def test_what_only_a_killed_broker_had_is_sent_again(platform: RunningPlatform, people: list[Account]) -> None:
    # Given changes that Kafka has acknowledged and nobody has told NATS yet, which does not answer
    with restored(platform, people, "kafka") as running:
        with platform.engine_frozen("nats"):
            running.flows()
            eventually(lambda: lag(platform, "BridgeToNatsFunction") > 5, within=20, what="messages in Kafka alone")
            event = platform.create_event(people[0])
            last_change = f"event-{event['id']}-2"
            eventually(lambda: last_change in ids_in_kafka(platform), within=20, what="the last change in Kafka")

            # When the broker dies, and comes back without its memory
            with platform.engine_killed("kafka"):
                running.flows()

        # Then they are sent to it again
        eventually(lambda: last_change in ids_in_kafka(platform), within=30, what="the last change in the new broker")
    assert running.answers.keys() <= {200, 201}, running.failures


def ids_in_kafka(platform: RunningPlatform) -> set[str]:
    return {record.headers["ce_id"] for record in platform.kafka_records("evp.events.v1")}


def lag(platform: RunningPlatform, function: str) -> float:
    """Messages that a function's event source mappings have not processed yet."""
    families = text_string_to_metric_families(platform.http.get("/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "trigger_statistics"
        and sample.labels["figure"] == "lag"
        and sample.labels["name"].startswith(function)
    )


# ---------------------------------------------------------------------------------- OpenSearch


def test_while_opensearch_does_not_answer_only_search_is_unavailable(
    platform: RunningPlatform, people: list[Account]
) -> None:
    with platform.engine_frozen("opensearch"):
        assert_unavailable(platform.http.get("/v1/search/events", params={"q": "jazz"}))
        event = platform.create_event(people[0])
        platform.register(people[1], event["id"])
        assert health(platform) == (200, "degraded", {"search"})

    converged(platform)


def test_a_killed_opensearch_gets_its_index_back(platform: RunningPlatform, people: list[Account]) -> None:
    # Given events in the index from before
    before = history_of(platform).indexed
    assert before

    # When OpenSearch dies while more are published
    with restored(platform, people, "opensearch") as running, platform.engine_killed("opensearch"):
        running.flows()

    # Then old and new are there, and nobody was refused
    assert history_of(platform).indexed.keys() >= before.keys() | running.published
    assert running.answers.keys() <= {200, 201}, running.failures


# ---------------------------------------------------------------------------------- NATS


def test_while_nats_does_not_answer_messages_wait_in_kafka(platform: RunningPlatform, people: list[Account]) -> None:
    with platform.engine_frozen("nats"):
        event = platform.create_event(people[0])
        platform.register(people[1], event["id"])
        assert health(platform) == (503, "unhealthy", {"nats"})

    converged(platform)


def test_messages_reach_a_killed_nats_once_it_is_back(platform: RunningPlatform, people: list[Account]) -> None:
    with restored(platform, people, "nats") as running, platform.engine_killed("nats"):
        running.flows()
    assert running.answers.keys() <= {200, 201}, running.failures


# ---------------------------------------------------------------------------------- AWS control plane


def test_tokens_and_state_machines_outlive_the_control_plane(platform: RunningPlatform, people: list[Account]) -> None:
    # Given a token, and what the control plane holds
    secrets = aws_client("secretsmanager", platform.endpoints["aws"])
    steps = aws_client("stepfunctions", platform.endpoints["aws"])
    keys = secrets.get_secret_value(SecretId="JwtKeys")["SecretString"]

    # When it dies under traffic
    with restored(platform, people, "aws") as running, platform.engine_killed("aws"):
        running.flows()

    # Then nobody notices: the same keys sign new tokens, and the state machines are there again
    assert running.answers.keys() <= {200, 201}, running.failures
    kept = eventually(lambda: secrets.get_secret_value(SecretId="JwtKeys")["SecretString"], within=30, what="the keys")
    assert kept == keys
    machines = eventually(lambda: steps.list_state_machines()["stateMachines"], within=30, what="state machines")
    assert "RebuildSearch" in {machine["name"] for machine in machines}
    newcomer = platform.log_in(people[0].id, people[0].email)
    assert platform.create_event(newcomer)["organizer"]["id"] == people[0].id


# ---------------------------------------------------------------------------------- all of them


def test_nothing_is_lost_when_every_engine_dies_at_once(platform: RunningPlatform, people: list[Account]) -> None:
    with restored(platform, people, "all") as running:
        processes = platform.processes()
        for engine in ENGINES:
            processes[engine].kill()
    assert not running.failures
