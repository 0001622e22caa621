"""Asynchronous invocations: retries, throttling and what is given up."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.application import ACCOUNT_ID, REGION, Application, AsyncInvokeConfig, Queue, function_arn
from local.engines import Endpoints
from local.triggers.asynchronous import AsyncInvocations
from local.triggers.destinations import Destinations
from local.workers import Workers
from tests.integration.triggers.platform import Platform, Recorder, platform
from tests.support.polling import eventually

SOON = 30.0


class Cases:
    def __init__(self, directory: Path) -> None:
        self.dead_letters = f"Dead{uuid.uuid4().hex[:8]}"
        queue_arn = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{self.dead_letters}"
        self.recovers = Recorder("Recovers", directory, {"FAIL_ON": "{", "FAIL_TIMES": "2"})
        self.fails = self.failing(directory, "Fails", AsyncInvokeConfig(1, on_failure_arn=queue_arn))
        self.collects = Recorder("Collects", directory)
        self.hands_over = self.failing(
            directory, "HandsOver", AsyncInvokeConfig(0, on_failure_arn=function_arn("Collects"))
        )
        self.bucket = "asynchronous-failures"
        self.stores = self.failing(
            directory, "Stores", AsyncInvokeConfig(0, on_failure_arn=f"arn:aws:s3:::{self.bucket}")
        )
        self.ages = self.failing(
            directory,
            "Ages",
            AsyncInvokeConfig(2, maximum_event_age_seconds=0, on_failure_arn=function_arn("Collects")),
        )
        self.throttled = Recorder(
            "Throttled",
            directory,
            {"HOLD_FILE": str(directory / "go")},
            {"reserved_concurrency": 1, "timeout_seconds": 20, "async_invoke": AsyncInvokeConfig(0)},
        )

    @staticmethod
    def failing(directory: Path, name: str, config: AsyncInvokeConfig) -> Recorder:
        return Recorder(name, directory, {"FAIL_ON": "{"}, {"async_invoke": config})

    def application(self) -> Application:
        recorders = [value for value in vars(self).values() if isinstance(value, Recorder)]
        return Application(
            {recorder.name: recorder.function for recorder in recorders},
            queues={self.dead_letters: Queue(self.dead_letters)},
            buckets=(self.bucket,),
        )


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return Cases(tmp_path_factory.mktemp("asynchronous"))


@pytest.fixture(scope="module")
def running(cases: Cases, endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(cases.application(), endpoints, tmp_path_factory.mktemp("state")) as started:
        yield started


def send(running: Platform, name: str, event: Any) -> str:
    """The request id with which the event was accepted."""
    response = running.client("lambda").invoke(
        FunctionName=name, InvocationType="Event", Payload=json.dumps(event).encode()
    )
    assert response["StatusCode"] == 202
    request_id: str = response["ResponseMetadata"]["RequestId"]
    return request_id


def test_an_event_that_fails_twice_is_tried_three_times(running: Platform, cases: Cases) -> None:
    send(running, "Recovers", {"n": 1})

    eventually(lambda: running.triggers.statistics()["asynchronous"]["Recovers"]["records"] == 1, within=SOON)
    assert cases.recovers.events() == [{"n": 1}] * 3


def test_an_event_whose_retries_are_exhausted_leaves_a_record_in_the_queue(running: Platform, cases: Cases) -> None:
    request_id = send(running, "Fails", {"order": [1, 2]})

    sqs = running.client("sqs")
    url = sqs.get_queue_url(QueueName=cases.dead_letters)["QueueUrl"]
    [message] = eventually(lambda: sqs.receive_message(QueueUrl=url).get("Messages"), within=SOON) or []
    record = json.loads(message["Body"])

    assert cases.fails.events() == [{"order": [1, 2]}] * 2
    assert record.pop("timestamp").endswith("Z")
    assert record.pop("responsePayload")["errorMessage"] == "told to fail"
    assert record == {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{function_arn('Fails')}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 2,
        },
        "requestPayload": {"order": [1, 2]},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
    }


@pytest.mark.parametrize(("name", "condition"), [("HandsOver", "RetriesExhausted"), ("Ages", "EventAgeExceeded")])
def test_a_function_as_destination_is_invoked_with_the_record(
    running: Platform, cases: Cases, name: str, condition: str
) -> None:
    request_id = send(running, name, {"for": name})

    def contexts() -> list[dict[str, Any]]:
        return [event["requestContext"] for event in cases.collects.events()]

    eventually(lambda: request_id in [context["requestId"] for context in contexts()], within=SOON)
    [context] = [context for context in contexts() if context["requestId"] == request_id]
    assert (context["condition"], context["approximateInvokeCount"]) == (condition, 1)


def test_a_bucket_as_destination_gets_an_object_named_after_the_function(running: Platform, cases: Cases) -> None:
    s3 = running.client("s3")

    request_id = send(running, "Stores", {"n": 1})
    [found] = eventually(lambda: s3.list_objects_v2(Bucket=cases.bucket).get("Contents"), within=SOON) or []

    assert found["Key"].startswith("aws/lambda/async/Stores/")
    record = json.load(s3.get_object(Bucket=cases.bucket, Key=found["Key"])["Body"])
    assert record["requestContext"]["requestId"] == request_id


def test_events_wait_for_a_throttled_function_and_none_is_counted_as_failed(running: Platform, cases: Cases) -> None:
    # Given a function that is busy, and that has no retries
    for number in range(3):
        send(running, "Throttled", number)
    # When it goes on
    Path(cases.throttled.settings["HOLD_FILE"]).touch()

    # Then every event succeeds
    eventually(lambda: running.triggers.statistics()["asynchronous"]["Throttled"]["records"] == 3, within=SOON)
    assert sorted(cases.throttled.events()) == [0, 1, 2]


def test_draining_waits_for_what_is_pending_and_gives_up_what_takes_too_long(
    endpoints: Endpoints, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quick = Recorder("Quick", tmp_path)
    endless = Recorder("Endless", tmp_path, {"HOLD_FILE": str(tmp_path / "never")}, {"timeout_seconds": 60})
    functions = {recorder.name: recorder.function for recorder in (quick, endless)}

    async def scenario() -> int:
        workers = Workers(functions, watch=False)
        await workers.start()
        try:
            asynchronous = AsyncInvocations(functions, workers, Destinations(endpoints.aws, endpoints.kafka))
            asynchronous.submit("Quick", b"1")
            asynchronous.submit("Endless", b"2")
            await asynchronous.drain(within_seconds=5.0)
            return asynchronous.pending
        finally:
            await workers.stop()

    assert asyncio.run(scenario()) == 0
    assert quick.events() == [1]
    [lost] = [record.message for record in caplog.records if "lost at stop" in record.message]
    assert lost.startswith("Endless: ")
