"""What comes back from an invocation: results, and failures in the words Lambda uses."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from local.workers import (
    MAXIMUM_REQUEST_BYTES,
    MAXIMUM_RESPONSE_BYTES,
    FunctionNotFoundError,
    PayloadTooLargeError,
    Workers,
)
from tests.integration.workers.conftest import Run
from tests.integration.workers.harness import Log, alive, begun, call, error, function, meeting, release, running

EXIT = "Runtime.ExitError"


def test_a_function_gets_its_event_and_context_and_its_result_comes_back(run: Run, workers: Workers) -> None:
    event = {"text": "Grüße, 世界", "numbers": [1, 2.5, None], "nested": {"a": []}}

    invocation = run(workers.invoke("echo", json.dumps(event).encode()))

    assert invocation.ok
    assert invocation.function_error is None
    assert invocation.executed_version == "$LATEST"
    seen = json.loads(invocation.payload)
    assert seen["event"] == event
    assert seen["request_id"] == invocation.request_id
    assert seen["function_name"] == "echo"
    assert seen["arn"] == "arn:aws:lambda:us-east-1:000000000000:function:echo"
    assert 0 < seen["remaining_ms"] <= 3000


def test_an_empty_payload_is_an_empty_event(run: Run, workers: Workers) -> None:
    invocation = run(workers.invoke("echo", b""))
    assert json.loads(invocation.payload)["event"] == {}


def test_trace_id_and_client_context_reach_the_function(run: Run, workers: Workers) -> None:
    trace_id = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"

    traced = run(call(workers, "environment", trace_id=trace_id))
    own = run(call(workers, "environment"))
    context = run(call(workers, "echo", {}, client_context='{"custom": {"tenant": "t1"}}'))

    assert traced["trace_id"] == trace_id
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", own["trace_id"])
    assert context["client_context"] == {"tenant": "t1"}


@pytest.mark.parametrize("option", ["trace_id", "client_context"])
def test_a_header_with_a_line_break_is_refused(run: Run, workers: Workers, option: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        run(workers.invoke("noop", b"{}", **{option: "a\r\nLambda-Runtime-Deadline-Ms: 0"}))


def test_an_unknown_function_is_not_found(run: Run, workers: Workers) -> None:
    with pytest.raises(FunctionNotFoundError, match="nobody"):
        run(workers.invoke("nobody", b"{}"))


def test_fastapi_behind_mangum_answers_a_proxy_event(run: Run, workers: Workers) -> None:
    event = {
        "resource": "/double/{number}",
        "path": "/double/21",
        "httpMethod": "GET",
        "headers": {},
        "multiValueHeaders": {},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": {"number": "21"},
        "requestContext": {"path": "/double/21", "identity": {"sourceIp": "127.0.0.1"}},
        "body": None,
        "isBase64Encoded": False,
    }

    response = run(call(workers, "http", event))

    assert response["statusCode"] == 200
    assert json.loads(response["body"]) == {"doubled": 42}


def test_an_exception_comes_back_with_type_message_and_stack(run: Run, workers: Workers) -> None:
    invocation = run(workers.invoke("raises", b"{}"))

    document = error(invocation)
    assert document["errorMessage"] == "no such luck"
    assert document["errorType"] == "ValueError"
    assert document["requestId"] == invocation.request_id
    assert [line.partition(",")[0] for line in document["stackTrace"]] == [f'  File "{function("raises").code}/app.py"']


def test_malformed_json_is_an_unmarshal_error(run: Run, workers: Workers) -> None:
    document = error(run(workers.invoke("echo", b"{not json")))
    assert document["errorType"] == "Runtime.UnmarshalError"
    assert document["errorMessage"].startswith("Unable to unmarshal input: ")


def test_a_result_that_is_not_json_is_a_marshal_error(run: Run, workers: Workers) -> None:
    invocation = run(workers.invoke("unserialisable", b"{}"))
    assert error(invocation) == {
        "errorMessage": "Unable to marshal response: Object of type set is not JSON serializable",
        "errorType": "Runtime.MarshalError",
        "requestId": invocation.request_id,
        "stackTrace": [],
    }


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"status": 1}, "Runtime exited with error: exit status 1"),
        ({"status": 0}, "Runtime exited without providing a reason"),
        ({"leave": 3}, "Runtime exited with error: exit status 3"),
        ({"signal": signal.SIGKILL}, "Runtime exited with error: signal: killed"),
        ({"signal": signal.SIGSEGV}, "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_a_crash_comes_back_as_exit_error_and_the_next_invocation_works(
    run: Run, workers: Workers, event: dict[str, Any], reason: str
) -> None:
    crashed = run(workers.invoke("crashes", json.dumps(event).encode()))
    after = run(workers.invoke("crashes", b"{}"))

    assert error(crashed) == {"errorType": EXIT, "errorMessage": f"RequestId: {crashed.request_id} Error: {reason}"}
    assert b"about to end\n" in crashed.log_tail
    assert re.search(rb"REPORT RequestId: .*\tStatus: error\tError Type: Runtime.ExitError\n$", crashed.log_tail)
    assert after.ok


def test_what_is_running_of_a_function_can_be_ended_as_by_a_crash(run: Run, tmp_path: Path) -> None:
    event = meeting(tmp_path)

    async def scenario() -> tuple[Any, int, int]:
        async with running(function("waits")) as workers:
            waiting = asyncio.create_task(workers.invoke("waits", json.dumps(event).encode()))
            pid = await begun(event)
            await workers.kill(["waits", "never invoked"])
            assert not alive(pid)
            release(event)
            return await waiting, pid, await call(workers, "waits", event)

    killed, pid, pid_after = run(scenario())

    assert error(killed)["errorType"] == EXIT
    assert error(killed)["errorMessage"].endswith("signal: killed")
    assert pid_after != pid


def test_a_process_that_ends_between_invocations_is_replaced(run: Run, workers: Workers) -> None:
    async def scenario() -> tuple[int, int]:
        # The second request may be meant for the first environment, but can never have reached it.
        return await call(workers, "crashes", {"at_next_poll": True}), await call(workers, "crashes", {})

    for _ in range(10):
        first, second = run(scenario())
        assert first != second


def test_an_invocation_over_the_timeout_is_killed_and_the_next_one_works(run: Run, tmp_path: Path) -> None:
    event = meeting(tmp_path)

    async def scenario() -> Any:
        async with running(function("waits", timeout_seconds=0.25)) as workers:
            late = await workers.invoke("waits", json.dumps(event).encode())
            release(event)
            return late, await call(workers, "waits", event)

    late, pid_after = run(scenario())

    assert error(late) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {late.request_id} Error: Task timed out after 0.25 seconds",
    }
    assert late.log_tail.rstrip().endswith(b"\tStatus: timeout")
    assert pid_after


def test_an_exception_while_importing_the_module_is_reported_each_time(run: Run, workers: Workers, log: Log) -> None:
    for _ in range(2):
        document = error(run(workers.invoke("init_error", b"{}")))
        assert document["errorType"] == "RuntimeError"
        assert document["errorMessage"] == "not today"
        assert any('app.py", line 1, in <module>' in line for line in document["stackTrace"])
    assert any(
        re.fullmatch(
            r"init_error: INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\tStatus: error\t.*RuntimeError", line
        )
        for line in log.lines
    )


def test_a_missing_module_is_an_import_error(run: Run, workers: Workers) -> None:
    invocation = run(workers.invoke("import_error", b"{}"))
    assert error(invocation) == {
        "errorMessage": "Unable to import module 'app': No module named 'no_such_module'",
        "errorType": "Runtime.ImportModuleError",
        "requestId": "",
        "stackTrace": [],
    }
    assert b"[ERROR] Runtime.ImportModuleError: Unable to import module 'app'" in invocation.log_tail


@pytest.mark.parametrize(
    ("handler", "error_type", "message"),
    [
        ("app.nothing", "Runtime.HandlerNotFound", "Handler 'nothing' missing on module 'app'"),
        (
            "handler",
            "Runtime.MalformedHandlerName",
            "Bad handler 'handler': not enough values to unpack (expected 2, got 1)",
        ),
    ],
)
def test_a_wrong_handler_is_named(run: Run, handler: str, error_type: str, message: str) -> None:
    async def scenario() -> Any:
        async with running(function("noop", handler=handler)) as workers:
            return await workers.invoke("noop", b"{}")

    document = error(run(scenario()))
    assert (document["errorType"], document["errorMessage"]) == (error_type, message)


def test_a_process_that_ends_while_initialising_is_an_exit_error(run: Run, workers: Workers) -> None:
    invocation = run(workers.invoke("init_exit", b"{}"))
    assert error(invocation) == {
        "errorType": EXIT,
        "errorMessage": f"RequestId: {invocation.request_id} Error: Runtime exited with error: exit status 7",
    }


def test_an_initialisation_over_its_limit_is_repeated_within_the_invocation(run: Run, tmp_path: Path) -> None:
    log = Log()
    slow = function("slow_init", environment={"STATE": str(tmp_path)}, timeout_seconds=20)

    async def scenario() -> Any:
        async with running(slow, init_seconds=0.5, log=log) as workers:
            return await call(workers, "slow_init")

    assert run(scenario()) == "initialised"
    assert any(re.search(r"INIT_REPORT .*\tPhase: init\tStatus: timeout$", line) for line in log.lines)


def test_an_initialisation_that_never_ends_times_out_with_the_function(run: Run, tmp_path: Path) -> None:
    log = Log()
    stuck = function("slow_init", environment={"STATE": str(tmp_path), "ALWAYS": "1"}, timeout_seconds=0.5)

    async def scenario() -> Any:
        async with running(stuck, init_seconds=0.5, log=log) as workers:
            return await workers.invoke("slow_init", b"{}")

    invocation = run(scenario())
    assert error(invocation)["errorType"] == "Sandbox.Timedout"
    assert error(invocation)["errorMessage"].endswith("Error: Task timed out after 0.50 seconds")
    assert [line.split("\t", 1)[1] for line in log.lines if "INIT_REPORT" in line] == [
        "Phase: init\tStatus: timeout",
        "Phase: invoke\tStatus: timeout",
    ]


def test_a_response_of_the_largest_size_passes_and_one_byte_more_does_not(run: Run, workers: Workers) -> None:
    async def scenario() -> Any:
        largest = await call(workers, "big_response", {"bytes": MAXIMUM_RESPONSE_BYTES})
        too_large = await workers.invoke("big_response", b'{"bytes": %d}' % (MAXIMUM_RESPONSE_BYTES + 1))
        return largest, too_large, await call(workers, "big_response", {"bytes": 10})

    largest, too_large, after = run(scenario())

    assert len(largest) == MAXIMUM_RESPONSE_BYTES - 2
    assert error(too_large) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert after == "x" * 8


def test_a_request_of_the_largest_size_passes_and_one_byte_more_is_refused(run: Run, workers: Workers) -> None:
    largest = b'"%s"' % (b"x" * (MAXIMUM_REQUEST_BYTES - 2))

    assert run(workers.invoke("noop", largest)).ok
    with pytest.raises(PayloadTooLargeError, match="must be smaller than 6291456 bytes"):
        run(workers.invoke("noop", largest + b" "))


def test_an_invocation_runs_to_its_end_when_its_caller_is_cancelled(run: Run, tmp_path: Path) -> None:
    event = meeting(tmp_path)

    async def scenario() -> tuple[int, int]:
        async with running(function("waits"), maximum_environments=1) as workers:
            caller = asyncio.create_task(call(workers, "waits", event))
            interrupted = await begun(event)
            caller.cancel()
            following = asyncio.create_task(call(workers, "waits", event))
            release(event)
            return interrupted, await following

    interrupted, following = run(scenario())

    assert following == interrupted  # the environment was neither killed nor given away before it had finished
