"""State machines that run the platform's functions: through the emulation's executor and the Invoke API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.application import Application, Schedule, StateMachine, function_arn
from local.engines import Endpoints
from local.triggers.schedules import ScheduleTrigger
from local.triggers.state_machines import StepFunctions, state_machine_arn
from tests.integration.triggers.platform import Platform, Recorder, platform
from tests.support.polling import eventually

SOON = 30.0


class Cases:
    def __init__(self, directory: Path) -> None:
        self.works = Recorder("Works", directory)
        self.recovers = Recorder("RecoversTask", directory, {"FAIL_ON": "{", "FAIL_TIMES": "2"})
        self.fails = Recorder("FailsTask", directory, {"FAIL_ON": "{"})

    def application(self) -> Application:
        recorders = (self.works, self.recovers, self.fails)
        return Application(
            {recorder.name: recorder.function for recorder in recorders},
            state_machines={
                "ByResource": machine("ByResource", {"Resource": function_arn("Works")}),
                "ByIntegration": machine("ByIntegration", integration("Works")),
                "Retries": machine("Retries", integration("RecoversTask"), attempts=3),
                "Catches": machine("Catches", integration("FailsTask"), attempts=1),
            },
        )


def integration(name: str) -> dict[str, Any]:
    return {
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": function_arn(name), "Payload.$": "$"},
        "OutputPath": "$.Payload",
    }


def machine(name: str, task: dict[str, Any], *, attempts: int = 0) -> StateMachine:
    """One task, retried, with what it failed with as the output of the machine."""
    task = {
        "Type": "Task",
        **task,
        "Retry": [{"ErrorEquals": ["RuntimeError"], "MaxAttempts": attempts, "IntervalSeconds": 1, "BackoffRate": 1}],
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Caught"}],
        "End": True,
    }
    return StateMachine(name, {"StartAt": "Task", "States": {"Task": task, "Caught": {"Type": "Pass", "End": True}}})


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return Cases(tmp_path_factory.mktemp("machines"))


@pytest.fixture(scope="module")
def running(cases: Cases, endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(cases.application(), endpoints, tmp_path_factory.mktemp("state")) as started:
        yield started


def output_of(running: Platform, name: str, document: Any) -> Any:
    client = running.client("stepfunctions")
    execution = client.start_execution(stateMachineArn=state_machine_arn(name), input=json.dumps(document))

    def ended() -> Any:
        description = client.describe_execution(executionArn=execution["executionArn"])
        return description if description["status"] != "RUNNING" else None

    description = eventually(ended, within=SOON)
    assert description["status"] == "SUCCEEDED"
    return json.loads(description["output"])


@pytest.mark.parametrize("name", ["ByResource", "ByIntegration"])
def test_a_task_state_runs_the_function_in_our_workers(running: Platform, cases: Cases, name: str) -> None:
    output = output_of(running, name, {"from": name})

    assert output["received"] == {"from": name}
    assert {"from": name} in cases.works.events()


def test_executions_without_a_name_are_given_one(running: Platform, cases: Cases) -> None:
    outputs = [output_of(running, "ByResource", {"execution": number})["received"] for number in range(2)]

    assert outputs == [{"execution": 0}, {"execution": 1}]


def test_retry_sees_the_error_of_the_function(running: Platform, cases: Cases) -> None:
    output = output_of(running, "Retries", {"n": 1})

    assert output["received"] == {"n": 1}
    assert cases.recovers.events() == [{"n": 1}] * 3


def test_catch_gets_the_error_of_the_function(running: Platform, cases: Cases) -> None:
    output = output_of(running, "Catches", {"n": 1})

    assert output["error"]["Error"] == "RuntimeError"
    assert json.loads(output["error"]["Cause"])["errorMessage"] == "told to fail"
    assert cases.fails.events() == [{"n": 1}] * 2


class QuickClock:
    """Time in which waiting takes no time, until it has been waited for an hour."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self._end = self._now + timedelta(hours=1, seconds=30)

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        await asyncio.sleep(0 if self._now < self._end else 3600)


def test_a_schedule_starts_the_machine_with_its_input(running: Platform, cases: Cases) -> None:
    schedule = Schedule("Hourly", "rate(1 hour)", state_machine="ByIntegration", input='{"from": "schedule"}')

    async def start() -> ScheduleTrigger:
        trigger = ScheduleTrigger(
            schedule, running.triggers.asynchronous, StepFunctions(running.endpoints.aws), clock=QuickClock()
        )
        await trigger.start()
        return trigger

    trigger = running.call(start())
    try:
        eventually(lambda: {"from": "schedule"} in cases.works.events(), within=SOON)
    finally:
        running.call(trigger.stop())
    assert cases.works.events().count({"from": "schedule"}) == 1
