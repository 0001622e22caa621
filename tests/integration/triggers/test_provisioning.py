"""What the control plane is given at the start, and again when the emulation came back empty."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.application import ACCOUNT_ID, REGION, Application, Queue, Secret, StateMachine
from local.triggers.state_machines import state_machine_arn
from tests.integration.triggers.platform import Platform, platform
from tests.support.engines import RunningEngines
from tests.support.polling import eventually

APPLICATION = Application(
    functions={},
    queues={
        "Jobs": Queue("Jobs", attributes={"VisibilityTimeout": "7"}, dead_letter_queue="Dead", max_receive_count=3),
        "Dead": Queue("Dead"),
        "Changing": Queue("Changing", attributes={"VisibilityTimeout": "7"}),
        "Orders.fifo": Queue("Orders.fifo", fifo=True, attributes={"ContentBasedDeduplication": "true"}),
    },
    secrets={
        "SigningKey": Secret("SigningKey", generate={"PasswordLength": 64, "ExcludePunctuation": True}),
        "Database": Secret(
            "Database", generate={"SecretStringTemplate": '{"user": "app"}', "GenerateStringKey": "password"}
        ),
        "Changing": Secret("Changing", value="as the template says"),
    },
    buckets=("provisioned-uploads",),
    topics=("Notifications",),
    state_machines={
        "Pass": StateMachine("Pass", {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}),
        "Changing": StateMachine("Changing", {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}),
    },
)


@pytest.fixture(scope="module")
def running(messaging: RunningEngines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(APPLICATION, messaging.endpoints, tmp_path_factory.mktemp("state")) as started:
        yield started


def test_everything_has_the_name_and_arn_that_the_template_computes(running: Platform) -> None:
    sqs, aws = running.client("sqs"), running.endpoints.aws

    url = sqs.get_queue_url(QueueName="Jobs")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert url == f"{aws}/{ACCOUNT_ID}/Jobs"
    assert attributes["QueueArn"] == f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:Jobs"
    assert attributes["VisibilityTimeout"] == "7"
    assert json.loads(attributes["RedrivePolicy"]) == {
        "deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:Dead",
        "maxReceiveCount": 3,
    }
    assert sqs.get_queue_url(QueueName="Orders.fifo")["QueueUrl"] == f"{aws}/{ACCOUNT_ID}/Orders.fifo"
    machines = running.client("stepfunctions").list_state_machines()["stateMachines"]
    assert state_machine_arn("Pass") in {machine["stateMachineArn"] for machine in machines}
    topics = {topic["TopicArn"] for topic in running.client("sns").list_topics()["Topics"]}
    assert f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:Notifications" in topics
    running.client("s3").head_bucket(Bucket="provisioned-uploads")


@pytest.mark.parametrize(
    "reference", ["SigningKey", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT_ID}:secret:SigningKey"], ids=["name", "arn"]
)
def test_a_generated_secret_is_found_by_name_and_by_partial_arn(running: Platform, reference: str) -> None:
    value = running.client("secretsmanager").get_secret_value(SecretId=reference)["SecretString"]

    assert len(value) == 64
    assert value.isalnum()


def test_provisioning_again_changes_only_what_the_template_changed(running: Platform) -> None:
    secrets, sqs = running.client("secretsmanager"), running.client("sqs")
    version = secrets.get_secret_value(SecretId="SigningKey")["VersionId"]
    url = sqs.get_queue_url(QueueName="Changing")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="kept")

    # When the template has another visibility timeout, state machine and secret value
    queue = Queue("Changing", attributes={"VisibilityTimeout": "8"})
    machine = StateMachine("Changing", {"StartAt": "B", "States": {"B": {"Type": "Succeed"}}})
    running.application = replace(
        APPLICATION,
        queues={**APPLICATION.queues, "Changing": queue},
        secrets={**APPLICATION.secrets, "Changing": Secret("Changing", value="changed")},
        state_machines={**APPLICATION.state_machines, "Changing": machine},
    )
    running.provision()

    # Then these are changed and the rest is what it was
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (attributes["VisibilityTimeout"], attributes["ApproximateNumberOfMessages"]) == ("8", "1")
    description = running.client("stepfunctions").describe_state_machine(stateMachineArn=state_machine_arn("Changing"))
    assert json.loads(description["definition"])["StartAt"] == "B"
    assert secrets.get_secret_value(SecretId="Changing")["SecretString"] == "changed"
    assert secrets.get_secret_value(SecretId="SigningKey")["VersionId"] == version


def test_what_was_rotated_into_a_generated_secret_stays(running: Platform) -> None:
    """CloudFormation makes such a value once, too."""
    secrets, before = running.client("secretsmanager"), running.application
    running.application = replace(before, secrets={"Rotating": Secret("Rotating", generate={"PasswordLength": 40})})
    running.provision()
    secrets.put_secret_value(SecretId="Rotating", SecretString="rotated")

    running.provision()

    assert secrets.get_secret_value(SecretId="Rotating")["SecretString"] == "rotated"
    running.application = before


def test_secrets_outlive_the_emulation_and_are_readable_by_their_owner_alone(
    running: Platform, messaging: RunningEngines
) -> None:
    names = ("SigningKey", "Database")

    def values() -> list[str]:
        client = running.client("secretsmanager")
        return [client.get_secret_value(SecretId=name)["SecretString"] for name in names]

    # Given the secrets of the first start
    before = values()
    assert json.loads(before[1])["user"] == "app"
    assert len(json.loads(before[1])["password"]) == 32

    impatient = running.client("sts", retries={"total_max_attempts": 1})

    # When the emulation dies
    messaging.kill("aws")

    # Then calls that do not try again get an error that says so, and those that do are answered by the next one
    error = eventually(lambda: error_of(impatient.get_caller_identity))
    assert error["Error"] == {"Code": "503", "Message": "Service Unavailable"}
    patient = running.client("sts", retries={"total_max_attempts": 20})
    assert patient.get_caller_identity()["Account"] == ACCOUNT_ID

    # And it is empty until it is provisioned, with the same values as before
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        values()
    running.provision()
    assert values() == before
    assert stat.S_IMODE((running.state / "secrets.json").stat().st_mode) == 0o600


def error_of(call: Callable[[], object]) -> dict[str, Any]:
    try:
        call()
    except ClientError as error:
        return dict(error.response)
    return {}
