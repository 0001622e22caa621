"""Rules for IAM: nothing is allowed on everything without a written reason, and nothing that is not needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.template_rules.templates import Resource, Templates, references

_ROLE = "AWS::IAM::Role"
_POLICIES = ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy")


def statements_name_their_resources(templates: Templates, *, excused: Mapping[str, str]) -> Iterator[str]:
    """`excused` is by role or policy. Key policies are no exception: `*` in one means the key that has it."""
    broad = set()
    for resource in templates.deployed(_ROLE, *_POLICIES):
        for statement in _statements(resource):
            if statement["Effect"] == "Allow" and _is_broad(statement):
                broad.add(resource.name)
    yield from (
        f"{name}: allows every action of a service, or any on every resource" for name in broad - excused.keys()
    )
    yield from (f"{name}: needs no excuse any more" for name in excused.keys() - broad)


def managed_policies_are_known(templates: Templates, *, known: Mapping[str, str]) -> Iterator[str]:
    """AWS' own policies name no resources of ours, so each one used has a reason in `known`, by its name."""
    used = set()
    for role in templates.deployed(_ROLE):
        for arn in role.properties.get("ManagedPolicyArns", []):
            name = str(arn["Fn::Sub"] if isinstance(arn, Mapping) else arn).rpartition("/")[2]
            used.add(name)
            if name not in known:
                yield f"{role.name}: {name} is not a policy with a known reason"
    yield from (f"{name}: no role has this policy any more" for name in known.keys() - used)


_CALLABLE = ("AWS::Serverless::Function", "AWS::Serverless::StateMachine", "AWS::SecretsManager::Secret")

# SAM's policy templates, and which of their parameters says what may be used.
_TARGETS = {
    "LambdaInvokePolicy": "FunctionName",
    "StepFunctionsExecutionPolicy": "StateMachineName",
    "AWSSecretsManagerGetSecretValuePolicy": "SecretArn",
}
# The variable that tells of an engine, and the action that is of no use without it.
_ACTIONS = {
    "DATABASE_URL": "rds-db:connect",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka-cluster:Connect",
    "OPENSEARCH_URL": "es:",
    "MAIL_FROM": "ses:SendEmail",
    "WEBSOCKET_CALLBACK_URL": "execute-api:ManageConnections",
}


def permissions_are_needed(templates: Templates, *, excused: Mapping[str, str]) -> Iterator[str]:
    """A function may call only what its environment tells it of, and has what its environment needs."""
    callable_ones = {resource.logical_id for resource in templates.written(*_CALLABLE)}
    unneeded = set()
    for function in templates.written("AWS::Serverless::Function"):
        variables = function.properties.get("Environment", {}).get("Variables", {})
        policies = function.properties.get("Policies", [])
        statements = [statement for policy in policies for statement in policy.get("Statement", [])]
        targets = [
            *(policy.get(name, {}).get(parameter) for policy in policies for name, parameter in _TARGETS.items()),
            *(statement["Resource"] for statement in statements),
        ]
        named = {name for target in targets for name, _ in references(target)}
        allowed = named & callable_ones
        told = {name for value in variables.values() for name, _ in references(value)}
        if extra := allowed - told:
            unneeded.add(function.name)
            if function.name not in excused:
                yield f"{function.name}: may use {', '.join(sorted(extra))}, of which its environment does not tell"
        actions = [action for statement in statements for action in _listed(statement["Action"])]
        for variable, action in _ACTIONS.items():
            if any(each.startswith(action) for each in actions) != (variable in variables):
                yield f"{function.name}: {variable} and the right to {action} come together"
        if ("NATS_CREDENTIALS_SECRET" in variables) != ("NatsCredentialsSecret" in named):
            yield f"{function.name}: NATS_CREDENTIALS_SECRET and the right to read that secret come together"
    yield from (f"{name}: needs no excuse any more" for name in excused.keys() - unneeded)


def _statements(resource: Resource) -> Iterator[Mapping[str, Any]]:
    if resource.type == _ROLE:
        documents = [policy["PolicyDocument"] for policy in resource.properties.get("Policies", [])]
    else:
        documents = [resource.properties["PolicyDocument"]]
    for document in documents:
        statements = document["Statement"]
        yield from statements if isinstance(statements, list) else [statements]


def _is_broad(statement: Mapping[str, Any]) -> bool:
    return (
        "NotAction" in statement
        or "NotResource" in statement
        or any(_is_everything(resource) for resource in _listed(statement["Resource"]))
        or any(action == "*" or str(action).endswith(":*") for action in _listed(statement["Action"]))
    )


def _is_everything(resource: Any) -> bool:
    """`*`, and ARNs whose whole resource part is one: `arn:aws:s3:::*`, `arn:aws:sqs:*:*:*`."""
    text = resource.get("Fn::Sub") if isinstance(resource, Mapping) else resource
    return isinstance(text, str) and (text == "*" or (text.startswith("arn:") and text.split(":", 5)[-1] == "*"))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
