"""MSK event source mappings over a real broker and real execution environments."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from local.application import ACCOUNT_ID, REGION, Application, KafkaMapping, Queue, function_arn
from local.engines import Endpoints
from local.triggers import ensure_topics
from tests.integration.triggers.platform import Platform, Recorder, platform, produce
from tests.support.engines import RunningEngines, engines_running
from tests.support.polling import eventually

SOON = 60.0  # joining a group takes three seconds at the embedded broker, and a busy machine takes longer


def values(*texts: str, partition: int = 0) -> list[dict[str, Any]]:
    return [{"value": text.encode(), "partition": partition} for text in texts]


@dataclass(frozen=True)
class Case:
    """A topic with a mapping to a recorder, each of its own."""

    recorder: Recorder
    mapping: KafkaMapping

    @property
    def topic(self) -> str:
        return self.mapping.topics[0]

    def key(self, partition: int = 0) -> str:
        return f"{self.topic}-{partition}"

    def offsets(self, partition: int = 0) -> list[list[int]]:
        """The offsets of the partition in each event that has some of it."""
        return self.recorder.offsets(self.key(partition))

    def statistics(self, running: Platform) -> Mapping[str, float]:
        return running.triggers.statistics()["kafka"][self.mapping.name]

    def processed(self, running: Platform) -> float:
        return self.statistics(running)["records"]


@dataclass(frozen=True)
class Topics:
    """Makes cases whose records exist before anything reads them, so that they come in one batch."""

    endpoints: Endpoints
    directory: Path

    def case(
        self,
        records: Sequence[dict[str, Any]] = (),
        *,
        partitions: int = 1,
        settings: Mapping[str, str] | None = None,
        **mapping: Any,
    ) -> Case:
        name = f"Case{uuid.uuid4().hex[:8]}"
        ensure_topics(self.endpoints.kafka, [name], partitions=partitions)
        produce(self.endpoints.kafka, name, records)
        return Case(
            Recorder(name, self.directory, dict(settings or {})),
            KafkaMapping(name, name, (name,), f"{name}-group", **{"batching_window_seconds": 0.0, **mapping}),
        )


def application(*cases: Case, queues: Sequence[str] = ()) -> Application:
    return Application(
        functions={case.recorder.name: case.recorder.function for case in cases},
        kafka_mappings=tuple(case.mapping for case in cases),
        queues={name: Queue(name) for name in queues},
    )


class Cases:
    """What most tests look at, each at its own: one platform has them all, because joining a group takes seconds."""

    def __init__(self, topics: Topics) -> None:
        header_and_key = {
            "key": b"k",
            "headers": [("ce_type", b"a\xff"), ("empty", b"")],
            "timestamp": 1_700_000_000_123,
        }
        self.event = topics.case([{"value": b"first", **header_and_key}, {"value": None}])
        self.order = topics.case(partitions=3, batch_size=20)
        self.window = topics.case(values("0", "1", "2", "3"), batch_size=3, batching_window_seconds=2.0)
        together: dict[str, Any] = {
            "batching_window_seconds": 1.0
        }  # longer than the fetches of what is there already are apart
        twice = {"FAIL_ON": "poison", "FAIL_TIMES": "2"}
        poisoned = values("0", "1", "2", "poison", "4", "5")
        self.reported = topics.case(
            poisoned, settings={**twice, "REPORT": "1"}, report_batch_item_failures=True, **together
        )
        self.raised = topics.case(poisoned, settings=twice, report_batch_item_failures=True, **together)
        self.not_asked_for = topics.case(poisoned, settings={**twice, "REPORT": "1"}, **together)
        self.stuck = topics.case(
            [*values("poison"), *values("0", partition=1)],
            partitions=2,
            settings={"FAIL_ON": "poison"},
            **together,
        )
        self.dead_letters = f"Dead{uuid.uuid4().hex[:8]}"
        self.given_up = topics.case(
            values("0", "1", "poison", "3"),
            settings={"FAIL_ON": "poison", "REPORT": "1"},
            report_batch_item_failures=True,
            maximum_retry_attempts=2,
            **together,
            on_failure_arn=f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{self.dead_letters}",
        )
        self.dead_letter_topic = topics.case().topic
        self.split = topics.case(
            [*values("0", "1"), {"value": b"poison", "key": b"the key", "partition": 0}, *values("3", "4")],
            settings={"FAIL_ON": "poison"},
            bisect_batch_on_error=True,
            maximum_retry_attempts=1,
            **together,
            on_failure_arn=f"kafka://{self.dead_letter_topic}",
        )
        nearly_a_megabyte = {"value": b"x" * 900_000, "partition": 0}
        self.big = topics.case([nearly_a_megabyte] * 12)

    def application(self) -> Application:
        cases = [value for value in vars(self).values() if isinstance(value, Case)]
        return application(*cases, queues=[self.dead_letters])


@pytest.fixture(scope="module")
def cases(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return Cases(Topics(endpoints, tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="module")
def running(cases: Cases, endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(cases.application(), endpoints, tmp_path_factory.mktemp("state")) as started:
        yield started


def test_an_event_has_every_field_that_msk_gives_it(running: Platform, cases: Cases) -> None:
    case = cases.event

    [event] = eventually(case.recorder.events, within=SOON)

    first, second = event["records"][case.key()]
    assert event["eventSource"] == "aws:kafka"
    assert event["eventSourceArn"].startswith(f"arn:aws:kafka:{REGION}:{ACCOUNT_ID}:cluster/")
    assert event["bootstrapServers"] == running.endpoints.kafka
    assert first == {
        "topic": case.topic,
        "partition": 0,
        "offset": 0,
        "timestamp": 1_700_000_000_123,
        "timestampType": "CREATE_TIME",
        "key": base64.b64encode(b"k").decode(),
        "value": base64.b64encode(b"first").decode(),
        "headers": [{"ce_type": [97, -1]}, {"empty": []}],
    }
    assert second.keys() == {"topic", "partition", "offset", "timestamp", "timestampType", "headers"}


def test_each_partition_arrives_in_order_once_and_in_batches_of_the_size_at_most(
    running: Platform, cases: Cases
) -> None:
    case = cases.order

    for part in range(6):
        records = [{"value": f"{part}-{n}".encode(), "partition": n % 3} for n in range(60)]
        produce(running.endpoints.kafka, case.topic, records)
    eventually(lambda: case.processed(running) == 360, within=SOON)
    eventually(lambda: case.statistics(running)["lag"] == 0, within=SOON)

    for partition in range(3):
        assert [offset for batch in case.offsets(partition) for offset in batch] == list(range(120))
    assert max(sum(map(len, event["records"].values())) for event in case.recorder.events()) == 20


def test_a_batch_waits_for_its_window_unless_it_is_full(running: Platform, cases: Cases) -> None:
    case = cases.window

    # Given a full batch, which does not wait, and one more record, which does
    eventually(lambda: case.offsets() == [[0, 1, 2]], within=SOON)
    # When another comes within the window
    produce(running.endpoints.kafka, case.topic, values("4"))
    eventually(lambda: case.processed(running) == 5, within=SOON)

    # Then the two come together
    assert case.offsets() == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("name", "attempts"),
    [
        ("reported", [[0, 1, 2, 3, 4, 5], [3, 4, 5], [3, 4, 5]]),
        ("raised", [[0, 1, 2, 3, 4, 5]] * 3),
        ("not_asked_for", [[0, 1, 2, 3, 4, 5]]),
    ],
)
def test_what_failed_is_tried_again_from_the_first_reported_offset_or_else_as_a_whole(
    running: Platform, cases: Cases, name: str, attempts: list[list[int]]
) -> None:
    case: Case = getattr(cases, name)

    eventually(lambda: case.processed(running) == 6, within=SOON)
    produce(running.endpoints.kafka, case.topic, values("6"))
    eventually(lambda: case.processed(running) == 7, within=SOON)

    assert case.offsets() == [*attempts, [6]]


def test_a_partition_that_fails_for_ever_does_not_hold_up_the_others(running: Platform, cases: Cases) -> None:
    case = cases.stuck

    # Given a first event with the poison and a record of the other partition
    eventually(lambda: case.processed(running) == 1, within=SOON)
    assert case.recorder.events()[0]["records"].keys() == {case.key(0), case.key(1)}
    # When more of the other partition comes
    produce(running.endpoints.kafka, case.topic, values("1", "2", partition=1))

    # Then it is processed, and what is left is the poison
    eventually(lambda: case.processed(running) == 3, within=SOON)
    lag = {case.key(0): 1, case.key(1): 0}
    eventually(lambda: running.triggers.kafka_lag()[case.mapping.name] == lag, within=SOON)


def test_what_is_given_up_goes_to_the_queue_and_the_partition_goes_on(running: Platform, cases: Cases) -> None:
    case = cases.given_up

    document = eventually(lambda: receive(running, cases.dead_letters), within=SOON)
    produce(running.endpoints.kafka, case.topic, values("4"))
    eventually(lambda: case.processed(running) == 3, within=SOON)

    # The first attempt, two retries of what was left, and the next record
    assert case.offsets() == [[0, 1, 2, 3], [2, 3], [2, 3], [4]]
    assert case.statistics(running)["discarded"] == 2
    batch = document["KafkaBatchInfo"]
    information = batch["recordsInfo"][case.key()]
    assert document["requestContext"] == {
        "requestId": case.recorder.invocations()[2]["request_id"],
        "functionArn": f"{function_arn(case.recorder.name)}:$LATEST",
        "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 3,
    }
    assert document["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": None}
    assert document["version"] == "1.0"
    assert (batch["batchSize"], batch["bootstrapServers"]) == (2, running.endpoints.kafka)
    assert (information["firstRecordOffset"], information["lastRecordOffset"]) == ("2", "3")


def test_a_split_batch_gives_up_the_poison_alone_and_sends_it_to_the_topic(running: Platform, cases: Cases) -> None:
    case = cases.split

    eventually(lambda: case.processed(running) == 4, within=SOON)
    key, document = read_one(running.endpoints.kafka, cases.dead_letter_topic)

    assert case.offsets() == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [2], [3, 4]]
    assert case.statistics(running)["discarded"] == 1
    assert key == b"the key"
    assert document["requestContext"]["condition"] == "RetriesExhausted"
    assert document["responseContext"]["functionError"] == "Unhandled"
    assert document["KafkaBatchInfo"]["recordInfo"]["offset"] == "2"
    [record] = document["payload"]["records"][case.key()]
    assert (record["offset"], base64.b64decode(record["value"])) == (2, b"poison")


def test_a_batch_is_no_larger_than_an_event_may_be(running: Platform, cases: Cases) -> None:
    case = cases.big

    eventually(lambda: case.processed(running) == 12, within=SOON)

    assert [offset for batch in case.offsets() for offset in batch] == list(range(12))
    assert max(map(len, case.offsets())) <= 5  # 900,000 bytes are 1.2 MB in Base64
    assert case.statistics(running)["failures"] == 0


@pytest.fixture
def own_engines(tmp_path: Path) -> Iterator[RunningEngines]:
    """Engines for one test, which starts a platform of its own over them or kills one."""
    with engines_running(tmp_path / "engines", only=frozenset({"kafka", "aws"})) as running:
        yield running


def test_nothing_is_repeated_or_left_out_across_a_stop_and_a_start(own_engines: RunningEngines, tmp_path: Path) -> None:
    endpoints = own_engines.endpoints
    case = Topics(endpoints, tmp_path).case(values(*map(str, range(5))), batch_size=1)
    with platform(application(case), endpoints, tmp_path) as running:
        eventually(lambda: case.processed(running) == 5, within=SOON)
    produce(endpoints.kafka, case.topic, values("5"))

    with platform(application(case), endpoints, tmp_path) as running:
        eventually(lambda: case.processed(running) == 1, within=SOON)

    assert case.offsets() == [[n] for n in range(6)]


def test_a_mapping_creates_topics_that_do_not_exist_and_reads_them(own_engines: RunningEngines, tmp_path: Path) -> None:
    name = f"Case{uuid.uuid4().hex[:8]}"
    case = Case(Recorder(name, tmp_path), KafkaMapping(name, name, (name,), name, batching_window_seconds=0.0))

    with platform(application(case), own_engines.endpoints, tmp_path) as running:
        eventually(lambda: len(running.triggers.kafka_lag()[name]) == 4, within=SOON, what="the topic's partitions")
        produce(own_engines.endpoints.kafka, name, values("0"))
        eventually(case.recorder.events, within=SOON)


@pytest.mark.parametrize("produced", [2, 12], ids=["fewer than before", "more than before"])
def test_a_broker_that_comes_back_empty_is_read_from_its_beginning(
    own_engines: RunningEngines, tmp_path: Path, produced: int
) -> None:
    case = Topics(own_engines.endpoints, tmp_path).case(values(*map(str, range(5))))
    with platform(application(case), own_engines.endpoints, tmp_path) as running:
        # Given a group that has read and committed five records
        eventually(lambda: case.processed(running) == 5, within=SOON)

        # When the broker dies and comes back with nothing, and other records are produced
        own_engines.kill("kafka")
        eventually(lambda: own_engines.statuses()["kafka"].restarts == 1, within=SOON)
        produce(own_engines.endpoints.kafka, case.topic, values(*(f"new {n}" for n in range(produced))))

        # Then every one of them is processed
        eventually(lambda: case.processed(running) == 5 + produced, within=SOON)

    assert [offset for batch in case.offsets() for offset in batch] == [*range(5), *range(produced)]


def receive(running: Platform, queue: str) -> Any:
    """The first document in a queue, or None."""
    sqs = running.client("sqs")
    messages = sqs.receive_message(QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"]).get("Messages", [])
    return json.loads(messages[0]["Body"]) if messages else None


def read_one(bootstrap_servers: str, topic: str) -> tuple[bytes | None, Any]:
    """The first message of a topic of one partition, as key and document."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        message = eventually(lambda: consumer.poll(0.2), within=SOON)
        assert message is not None
        assert message.error() is None
        return message.key(), json.loads(message.value() or b"")
    finally:
        consumer.close()
