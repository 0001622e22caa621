"""Lambda's Invoke API, as boto3 sees it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message

from local.application import Application, function_arn
from local.control_plane.lambda_api import LambdaApi
from local.engines import Endpoints
from local.triggers import AsyncInvocations
from local.triggers.invoking import Invoker
from tests.integration.triggers.platform import Platform, Recorder, platform
from tests.support.polling import eventually


@pytest.fixture(scope="module")
def recorders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorder]:
    directory = tmp_path_factory.mktemp("invoke")
    return {
        "Echo": Recorder("Echo", directory),
        "Broken": Recorder("Broken", directory, {"FAIL_ON": "{"}),
        "Reserved": Recorder(
            "Reserved",
            directory,
            {"HOLD_FILE": str(directory / "go")},
            {"reserved_concurrency": 1, "timeout_seconds": 20},
        ),
    }


@pytest.fixture(scope="module")
def running(
    recorders: dict[str, Recorder], endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    application = Application(functions={name: recorder.function for name, recorder in recorders.items()})
    with platform(application, endpoints, tmp_path_factory.mktemp("state")) as started:
        yield started


@pytest.mark.parametrize(
    "name", ["Echo", function_arn("Echo"), f"{function_arn('Echo')}:$LATEST", "000000000000:function:Echo"]
)
def test_a_function_is_invoked_by_name_and_by_each_form_of_its_arn(running: Platform, name: str) -> None:
    response = running.client("lambda").invoke(FunctionName=name, Payload=b'{"n": 1}', LogType="Tail")

    assert response["StatusCode"] == 200
    assert response["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in response
    assert json.load(response["Payload"])["received"] == {"n": 1}
    assert response["ResponseMetadata"]["RequestId"] in base64.b64decode(response["LogResult"]).decode()


def test_an_error_of_the_function_is_a_success_of_the_api_with_function_error(running: Platform) -> None:
    response = running.client("lambda").invoke(FunctionName="Broken", Payload=b"{}")

    assert response["StatusCode"] == 200
    assert response["FunctionError"] == "Unhandled"
    assert json.load(response["Payload"])["errorType"] == "RuntimeError"


def test_an_unknown_function_is_resource_not_found(running: Platform) -> None:
    client = running.client("lambda")

    with pytest.raises(client.exceptions.ResourceNotFoundException, match=r"Function not found: .*:function:Nobody"):
        client.invoke(FunctionName="Nobody")


def test_who_dies_while_it_asks_leaves_nothing_behind(recorders: dict[str, Recorder]) -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    api = LambdaApi({"Echo": recorders["Echo"].function}, cast(Invoker, None), cast(AsyncInvocations, None))
    scope = {"type": "http", "path_params": {"name": "Echo"}, "headers": [], "query_string": b""}

    assert asyncio.run(api.invoke(Request(scope, gone))).status_code == 400


def test_a_function_at_its_reserved_concurrency_is_throttled(running: Platform, recorders: dict[str, Recorder]) -> None:
    client = running.client("lambda", retries={"total_max_attempts": 1})
    hold = Path(recorders["Reserved"].settings["HOLD_FILE"])

    # Given an invocation that takes the only place
    client.invoke(FunctionName="Reserved", InvocationType="Event", Payload=b'"first"')

    def throttled() -> bool:
        with pytest.raises(client.exceptions.TooManyRequestsException) as error:
            client.invoke(FunctionName="Reserved", Payload=b'"second"')
        return error.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"

    # Then a second one is refused, and after the first it is not
    try:
        assert throttled()
    finally:
        hold.touch()
    eventually(recorders["Reserved"].events)
    eventually(lambda: client.invoke(FunctionName="Reserved", Payload=b'"third"')["StatusCode"] == 200)


def test_payloads_above_the_limits_are_refused_and_those_at_them_are_not(running: Platform) -> None:
    client = running.client("lambda")

    def payload(size: int) -> bytes:
        return b'"' + b"x" * (size - 2) + b'"'

    for kind, limit in (("RequestResponse", 6_291_456), ("Event", 1_048_576)):
        with pytest.raises(client.exceptions.RequestTooLargeException, match=str(limit)) as error:
            client.invoke(FunctionName="Echo", InvocationType=kind, Payload=payload(limit + 1))
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
        response = client.invoke(FunctionName="Echo", InvocationType=kind, Payload=payload(limit))
        assert response["StatusCode"] in (200, 202)


def test_a_payload_that_is_not_json_is_invalid_request_content(running: Platform) -> None:
    client = running.client("lambda")

    with pytest.raises(client.exceptions.InvalidRequestContentException):
        client.invoke(FunctionName="Echo", Payload=b"{not json")


def test_a_client_context_that_cannot_be_read_is_invalid_request_content(running: Platform) -> None:
    client = running.client("lambda")

    with pytest.raises(client.exceptions.InvalidRequestContentException):
        client.invoke(FunctionName="Echo", Payload=b"{}", ClientContext="no Base64")


def test_a_dry_run_invokes_nothing(running: Platform, recorders: dict[str, Recorder]) -> None:
    before = len(recorders["Echo"].events())

    response = running.client("lambda").invoke(FunctionName="Echo", InvocationType="DryRun")

    assert response["StatusCode"] == 204
    assert len(recorders["Echo"].events()) == before


def test_functions_can_be_looked_up(running: Platform) -> None:
    client = running.client("lambda")

    listed = {function["FunctionName"] for function in client.list_functions()["Functions"]}
    found = client.get_function(FunctionName="Echo")["Configuration"]

    assert listed == {"Echo", "Broken", "Reserved"}
    assert (found["FunctionArn"], found["Handler"]) == (function_arn("Echo"), "app.handler")


def test_everything_else_is_answered_by_the_emulation(running: Platform) -> None:
    s3 = running.client("s3")
    content = bytes(range(256)) * 4096

    # Given an object with a name that must arrive as it is spelled
    s3.create_bucket(Bucket="proxied")
    s3.put_object(Bucket="proxied", Key="a b/ü%2F+.bin", Body=content, Metadata={"colour": "green"})

    # Then it is found under that name, whole, and also through a presigned URL
    presigned = s3.generate_presigned_url("get_object", Params={"Bucket": "proxied", "Key": "a b/ü%2F+.bin"})
    assert httpx.get(presigned, trust_env=False).content == content
    found = s3.get_object(Bucket="proxied", Key="a b/ü%2F+.bin")
    assert found["Body"].read() == content
    assert found["Metadata"] == {"colour": "green"}
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="proxied")["Contents"]] == ["a b/ü%2F+.bin"]
    assert running.client("sts").get_caller_identity()["Account"] == "000000000000"
