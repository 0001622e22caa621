"""A state machine run from its creation to its output."""

from __future__ import annotations

import json
import uuid
from typing import Any

import boto3

from local.application import ACCOUNT_ID, REGION
from tests.support.polling import eventually


def execute_state_machine(endpoint: str) -> Any:
    """The output of a machine whose only state gives `{"answer": 42}`; an emulator that only records has none."""
    client = boto3.client(
        "stepfunctions",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    definition = {"StartAt": "Answer", "States": {"Answer": {"Type": "Pass", "Result": {"answer": 42}, "End": True}}}
    machine = client.create_state_machine(
        name=f"test-{uuid.uuid4().hex}",
        definition=json.dumps(definition),
        roleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/test",
    )["stateMachineArn"]
    execution = client.start_execution(stateMachineArn=machine, input="{}")["executionArn"]

    def output() -> str | None:
        return client.describe_execution(executionArn=execution).get("output")

    return json.loads(eventually(output) or "")
