"""Starting executions in the Step Functions of the local AWS endpoint."""

from __future__ import annotations

import asyncio
import uuid
from functools import cached_property
from typing import Any

from local.application import ACCOUNT_ID, REGION
from local.triggers.aws import aws_client


def state_machine_arn(name: str) -> str:
    """The ARN a state machine has on one machine; the name is its logical id in the template."""
    return f"arn:aws:states:{REGION}:{ACCOUNT_ID}:stateMachine:{name}"


class StepFunctions:
    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    async def start_execution(self, name: str, document: str) -> None:
        """Start the state machine with this JSON input. Raises botocore's errors."""
        await asyncio.to_thread(self._start_execution, name, document)

    def _start_execution(self, name: str, document: str) -> None:
        self._client.start_execution(stateMachineArn=state_machine_arn(name), name=str(uuid.uuid4()), input=document)

    @cached_property
    def _client(self) -> Any:
        return aws_client("stepfunctions", self._endpoint)
