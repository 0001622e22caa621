"""Creating in the control plane what the template declares: it keeps nothing, so this runs at every start of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local.application import ACCOUNT_ID, REGION, Application, Queue, Secret, StateMachine
from local.control_plane.secret_values import SecretValues
from local.triggers.aws import aws_client
from local.triggers.state_machines import state_machine_arn

ROLE_ARN = f"arn:aws:iam::{ACCOUNT_ID}:role/local"


async def provision(application: Application, endpoint: str, *, state: Path) -> None:
    """Create or update queues, secrets, buckets, SNS topics and state machines, each under its name in the template.

    `endpoint` is the control plane's. Generated secrets are kept in `state/secrets.json`, so that they stay the same
    for as long as the data do. Raises botocore's errors.
    """
    await asyncio.to_thread(_provision, application, endpoint, SecretValues(state / "secrets.json"))


def _provision(application: Application, endpoint: str, values: SecretValues) -> None:
    if application.queues:
        _create_queues(aws_client("sqs", endpoint), application.queues.values())
    if application.secrets:
        client = aws_client("secretsmanager", endpoint)
        for secret in application.secrets.values():
            _put_secret(client, secret, values)
    if application.buckets:
        client = aws_client("s3", endpoint)
        for bucket in application.buckets:
            client.create_bucket(Bucket=bucket)
    if application.topics:
        client = aws_client("sns", endpoint)
        for topic in application.topics:
            client.create_topic(Name=topic)
    if application.state_machines:
        client = aws_client("stepfunctions", endpoint)
        for state_machine in application.state_machines.values():
            _put_state_machine(client, state_machine)


def _create_queues(sqs: Any, queues: Any) -> None:
    # In two passes: a redrive policy refers to a queue that may come later.
    urls = {queue.name: _create_queue(sqs, queue) for queue in queues}
    for queue in queues:
        attributes = dict(queue.attributes)
        if queue.dead_letter_queue:
            target = f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{queue.dead_letter_queue}"
            policy = {"deadLetterTargetArn": target, "maxReceiveCount": queue.max_receive_count}
            attributes["RedrivePolicy"] = json.dumps(policy)
        if attributes:
            sqs.set_queue_attributes(QueueUrl=urls[queue.name], Attributes=attributes)


def _create_queue(sqs: Any, queue: Queue) -> str:
    # Looked up first: creating a queue that exists with other attributes is an error.
    try:
        url: str = sqs.get_queue_url(QueueName=queue.name)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        attributes = {"FifoQueue": "true"} if queue.fifo else {}
        url = sqs.create_queue(QueueName=queue.name, Attributes=attributes)["QueueUrl"]
    return url


def _put_secret(secretsmanager: Any, secret: Secret, values: SecretValues) -> None:
    value = values.value_of(secret)
    try:
        present = secretsmanager.get_secret_value(SecretId=secret.name)["SecretString"]
    except secretsmanager.exceptions.ResourceNotFoundException:
        secretsmanager.create_secret(Name=secret.name, SecretString=value)
    else:
        # A generated value is made once: what stands there instead has been rotated in.
        if present != value and secret.generate is None:
            secretsmanager.put_secret_value(SecretId=secret.name, SecretString=value)


def _put_state_machine(stepfunctions: Any, machine: StateMachine) -> None:
    definition = json.dumps(machine.definition)
    try:
        stepfunctions.update_state_machine(
            stateMachineArn=state_machine_arn(machine.name), definition=definition, roleArn=ROLE_ARN
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "StateMachineDoesNotExist":
            raise
        stepfunctions.create_state_machine(
            name=machine.name, definition=definition, roleArn=ROLE_ARN, type=machine.type
        )
