"""Queues, state machines, secrets, buckets and topics: what the control plane is to be provisioned with."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

import yaml

from local.application import Queue, Secret, StateMachine
from local.template.intrinsics import scalar
from local.template.stack import Resource, Stack, bucket_name, physical_name, queue_name

_LOG = logging.getLogger(__name__)
_QUEUE_ATTRIBUTES = (
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "DelaySeconds",
    "FifoThroughputLimit",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "ReceiveMessageWaitTimeSeconds",
    "VisibilityTimeout",
)
_SUBSTITUTION = re.compile(r"\$\{([A-Za-z0-9_]+)\}")


def read_queues(stack: Stack) -> dict[str, Queue]:
    """Queues by the name SQS knows them by: `QueueName`, or the logical id (with `.fifo` where it must end so)."""
    queues = {}
    for resource in stack.all_resources():
        if resource.type == "AWS::SQS::Queue":
            name = queue_name(resource)
            redrive = resource.get("RedrivePolicy") or {}
            target = redrive.get("deadLetterTargetArn")
            queues[name] = Queue(
                name=name,
                fifo=name.endswith(".fifo"),
                attributes={
                    attribute: scalar(resource.get(attribute), resource.place(attribute))
                    for attribute in _QUEUE_ATTRIBUTES
                    if attribute in resource.properties
                },
                dead_letter_queue=target.rpartition(":")[2] if target else None,
                max_receive_count=int(redrive["maxReceiveCount"]) if target else None,
            )
    return queues


def read_state_machines(stack: Stack) -> dict[str, StateMachine]:
    """State machines by name, with their definitions' `${…}` substituted."""
    machines = {}
    for resource in stack.all_resources():
        if resource.type == "AWS::StepFunctions::StateMachine":
            name = physical_name(resource, "StateMachineName")
            type_ = resource.get("StateMachineType", "STANDARD")
            machines[name] = StateMachine(name=name, definition=_read_definition(resource), type=type_)
    return machines


def _read_definition(resource: Resource) -> Mapping[str, Any]:
    is_yaml = False
    if "DefinitionS3Location" in resource.properties:
        path = resource.path("DefinitionS3Location", "Bucket", "Key")
        text, is_yaml = path.read_text(), path.suffix in (".yaml", ".yml")
    elif "DefinitionString" in resource.properties:
        text = str(resource.get("DefinitionString"))
    else:
        text = json.dumps(resource.get("Definition"))
    substitutions = resource.get("DefinitionSubstitutions", {})

    def substitute(match: re.Match[str]) -> str:
        if match[1] not in substitutions:
            raise resource.error("DefinitionSubstitutions", f"the definition uses ${{{match[1]}}}, which is not given")
        return scalar(substitutions[match[1]], resource.place("DefinitionSubstitutions"))

    text = _SUBSTITUTION.sub(substitute, text)
    try:
        return yaml.safe_load(text) if is_yaml else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise resource.error("Definition", f"is not valid after substitution: {error}") from error


def read_secrets(stack: Stack) -> dict[str, Secret]:
    """Secrets by name."""
    secrets = {}
    for resource in stack.all_resources():
        if resource.type == "AWS::SecretsManager::Secret":
            name = physical_name(resource, "Name")
            secrets[name] = Secret(
                name=name, value=resource.get("SecretString"), generate=resource.get("GenerateSecretString")
            )
    return secrets


def read_buckets(stack: Stack) -> tuple[str, ...]:
    names = []
    for resource in stack.all_resources():
        if resource.type == "AWS::S3::Bucket":
            resource.refuse("NotificationConfiguration", because="notifications are not supported on one machine")
            names.append(bucket_name(resource))
    return tuple(names)


def read_topics(stack: Stack) -> tuple[str, ...]:
    """SNS topics; subscriptions of people (mail, SMS, a web hook) have no meaning on one machine."""
    names = []
    for resource in stack.all_resources():
        if resource.type == "AWS::SNS::Topic":
            names.append(physical_name(resource, "TopicName"))
            for subscription in resource.properties.get("Subscription") or []:
                _check_protocol(resource, "Subscription", subscription.get("Protocol"))
        elif resource.type == "AWS::SNS::Subscription":
            _check_protocol(resource, "Protocol", resource.get("Protocol"))
    return tuple(names)


def read_kafka_topics(stack: Stack) -> tuple[str, ...]:
    return tuple(
        physical_name(resource, "TopicName") for resource in stack.all_resources() if resource.type == "AWS::MSK::Topic"
    )


def _check_protocol(resource: Resource, property_: str, protocol: object) -> None:
    if protocol not in ("email", "email-json", "sms", "http", "https"):
        raise resource.error(property_, f"{protocol} subscriptions are not supported on one machine")
    _LOG.warning("%s: nothing is sent by %s on one machine", resource.logical_id, protocol)
