"""SQS event source mappings over the emulated queue service."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.application import ACCOUNT_ID, REGION, Application, Queue, QueueMapping
from local.engines import Endpoints
from tests.integration.triggers.platform import Platform, Recorder, platform
from tests.support.polling import eventually

SOON = 30.0


class Cases:
    """Queues with a mapping to a recorder each, served by one platform."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recorders: dict[str, Recorder] = {}
        self.queues: dict[str, Queue] = {}
        self.mappings: list[QueueMapping] = []
        self.plain = self.add()
        self.partial = self.add(
            {"FAIL_ON": "poison", "REPORT": "1"}, report_batch_item_failures=True, batching_window_seconds=1.0
        )
        self.whole = self.add({"FAIL_ON": "poison"}, batching_window_seconds=1.0)
        self.ordered = self.add(fifo=True)
        self.throttled = self.add(
            {"HOLD_FILE": str(directory / "go")},
            batch_size=1,
            function={"reserved_concurrency": 1, "timeout_seconds": 20},
        )

    def add(
        self,
        settings: dict[str, str] | None = None,
        *,
        fifo: bool = False,
        function: dict[str, Any] | None = None,
        **mapping: Any,
    ) -> str:
        """The name of a queue whose messages are seen again after three seconds and given up after two receptions."""
        name = f"Queue{uuid.uuid4().hex[:8]}"
        queue = f"{name}.fifo" if fifo else name
        dead = f"{name}Dead.fifo" if fifo else f"{name}Dead"
        attributes = {"VisibilityTimeout": "20" if function else "3"}
        self.recorders[queue] = Recorder(name, self.directory, settings or {}, function or {})
        self.queues[dead] = Queue(dead, fifo=fifo)
        self.queues[queue] = Queue(queue, fifo, attributes, dead_letter_queue=dead, max_receive_count=2)
        self.mappings.append(QueueMapping(name, name, queue, **mapping))
        return queue

    def application(self) -> Application:
        functions = {recorder.name: recorder.function for recorder in self.recorders.values()}
        return Application(functions, queues=self.queues, queue_mappings=tuple(self.mappings))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return Cases(tmp_path_factory.mktemp("queues"))


@pytest.fixture(scope="module")
def running(cases: Cases, endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(cases.application(), endpoints, tmp_path_factory.mktemp("state")) as started:
        yield started


def send(running: Platform, queue: str, *bodies: str, **message: Any) -> None:
    """In one call, so that they are there at once."""
    sqs = running.client("sqs")
    entries = [{"Id": str(number), "MessageBody": body, **message} for number, body in enumerate(bodies)]
    sqs.send_message_batch(QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"], Entries=entries)


def left_in(running: Platform, queue: str) -> tuple[int, int]:
    """Messages that are visible, and those in flight."""
    sqs = running.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"]), int(attributes["ApproximateNumberOfMessagesNotVisible"])


def test_an_event_has_every_field_that_sqs_gives_it(running: Platform, cases: Cases) -> None:
    attributes = {
        "colour": {"DataType": "String", "StringValue": "green"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }

    send(running, cases.plain, '{"n": 1}', MessageAttributes=attributes)
    [event] = eventually(cases.recorders[cases.plain].events, within=SOON)
    eventually(lambda: left_in(running, cases.plain) == (0, 0), within=SOON, what="deletion after success")

    [record] = event["Records"]
    assert record.keys() == {
        "messageId",
        "receiptHandle",
        "body",
        "attributes",
        "messageAttributes",
        "md5OfBody",
        "md5OfMessageAttributes",
        "eventSource",
        "eventSourceARN",
        "awsRegion",
    }
    assert record["body"] == '{"n": 1}'
    assert record["eventSource"] == "aws:sqs"
    assert record["eventSourceARN"] == f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{cases.plain}"
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert {"SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"} <= record["attributes"].keys()
    empty: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    assert record["messageAttributes"] == {
        "colour": {"dataType": "String", "stringValue": "green", **empty},
        "bytes": {"dataType": "Binary", "binaryValue": "AP8=", **empty},
    }


def test_only_what_is_reported_comes_again_and_reaches_the_dead_letter_queue(running: Platform, cases: Cases) -> None:
    # Given a batch with a poison, once for a function that reports it and once for one that raises
    for queue in (cases.partial, cases.whole):
        send(running, queue, "sound 1", "poison", "sound 2")

    # When it has been received as often as the queue allows
    eventually(lambda: left_in(running, f"{cases.partial}Dead") == (1, 0), within=SOON)
    eventually(lambda: left_in(running, f"{cases.whole}Dead") == (3, 0), within=SOON)

    # Then the reported one came twice, and without a report all of them did
    received = Counter(body for batch in cases.recorders[cases.partial].bodies() for body in batch)
    assert received == {"sound 1": 1, "poison": 2, "sound 2": 1}
    received = Counter(body for batch in cases.recorders[cases.whole].bodies() for body in batch)
    assert received == {"sound 1": 2, "poison": 2, "sound 2": 2}
    assert [left_in(running, queue) for queue in (cases.partial, cases.whole)] == [(0, 0), (0, 0)]


def test_messages_of_a_group_come_in_order_one_batch_at_a_time(running: Platform, cases: Cases) -> None:
    sqs = running.client("sqs")
    url = sqs.get_queue_url(QueueName=cases.ordered)["QueueUrl"]
    recorder = cases.recorders[cases.ordered]

    for number in range(15):
        sqs.send_message(
            QueueUrl=url, MessageBody=str(number), MessageGroupId="group", MessageDeduplicationId=uuid.uuid4().hex
        )
    eventually(lambda: sum(map(len, recorder.bodies())) == 15, within=SOON)

    assert [int(body) for batch in recorder.bodies() for body in batch] == list(range(15))
    assert recorder.events()[0]["Records"][0]["attributes"]["MessageGroupId"] == "group"


def test_messages_wait_for_a_throttled_function_rather_than_be_given_up(running: Platform, cases: Cases) -> None:
    recorder = cases.recorders[cases.throttled]

    # Given more batches at a time than the function may have
    send(running, cases.throttled, *map(str, range(4)))
    eventually(lambda: left_in(running, cases.throttled) == (0, 4), within=SOON)
    # When it goes on
    Path(recorder.settings["HOLD_FILE"]).touch()

    # Then all are processed, each received once
    eventually(lambda: left_in(running, cases.throttled) == (0, 0), within=SOON)
    records = [record for event in recorder.events() for record in event["Records"]]
    assert sorted(record["body"] for record in records) == ["0", "1", "2", "3"]
    assert {record["attributes"]["ApproximateReceiveCount"] for record in records} == {"1"}


def test_a_changed_template_begins_and_ends_mappings(running: Platform, cases: Cases) -> None:
    # Given a queue whose mapping is gone from the template
    before = running.application
    mappings = {mapping.queue: mapping for mapping in before.queue_mappings}
    gone = mappings.pop(cases.plain)
    running.call(running.triggers.update(replace(before, queue_mappings=tuple(mappings.values()))))
    recorder = cases.recorders[cases.plain]
    already = len(recorder.events())
    send(running, cases.plain, "sent while there is no mapping")
    assert gone.name not in running.triggers.statistics()["queues"]
    assert left_in(running, cases.plain) == (1, 0)

    # When it is back
    running.call(running.triggers.update(before))

    # Then the message is processed
    eventually(lambda: left_in(running, cases.plain) == (0, 0), within=SOON)
    assert recorder.bodies()[already:] == [["sent while there is no mapping"]]
