"""Rules for what functions stand on: data at rest and in transit, stacks, topics and the WebSocket API."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.template_rules.templates import ROOT, Resource, Templates, references

# CloudFormation's limit is 500; what is left is for the time it takes to split the template.
MAXIMUM_RESOURCES = 420

# What protects the data of a type, beside its deletion policies: property paths and what they must be.
PROTECTION: Mapping[str, Mapping[str, object]] = {
    "AWS::RDS::DBInstance": {
        "StorageEncrypted": True,
        "KmsKeyId": ...,
        "BackupRetentionPeriod": ...,
        "DeletionProtection": {"Fn::If": ["IsProduction", True, False]},
        "PubliclyAccessible": False,
    },
    "AWS::ElastiCache::ReplicationGroup": {
        "AtRestEncryptionEnabled": True,
        "TransitEncryptionEnabled": True,
        "TransitEncryptionMode": "required",
    },
    "AWS::OpenSearchService::Domain": {
        "EncryptionAtRestOptions.Enabled": True,
        "NodeToNodeEncryptionOptions.Enabled": True,
        "DomainEndpointOptions.EnforceHTTPS": True,
        "DomainEndpointOptions.TLSSecurityPolicy": "Policy-Min-TLS-1-2-PFS-2023-10",
        "VPCOptions.SubnetIds": ...,
    },
    "AWS::MSK::Cluster": {
        "EncryptionInfo.EncryptionAtRest.DataVolumeKMSKeyId": ...,
        "EncryptionInfo.EncryptionInTransit.ClientBroker": "TLS",
        "EncryptionInfo.EncryptionInTransit.InCluster": True,
        "ClientAuthentication.Sasl.Iam.Enabled": True,
        "ClientAuthentication.Unauthenticated.Enabled": False,
    },
    "AWS::MSK::Topic": {},
    "AWS::KMS::Key": {"EnableKeyRotation": True},
    "AWS::SecretsManager::Secret": {},
    "AWS::S3::Bucket": {
        "BucketEncryption.ServerSideEncryptionConfiguration": ...,
        "PublicAccessBlockConfiguration.BlockPublicPolicy": True,
        "PublicAccessBlockConfiguration.RestrictPublicBuckets": True,
    },
    "AWS::SQS::Queue": {"SqsManagedSseEnabled": True},
}

# They hold what can go with their stack: log lines, and resources that have policies of their own.
_TRANSIENT = {"AWS::Logs::LogGroup", "AWS::CloudFormation::Stack"}
_KEPT = {"Retain", "RetainExceptOnCreate", "Snapshot"}


def data_is_protected(templates: Templates) -> Iterator[str]:
    """Every resource that holds data is kept when it is deleted or replaced, and encrypted."""
    stateful = _stateful_types() | PROTECTION.keys()
    for resource in templates.deployed(*(stateful - _TRANSIENT)):
        if resource.type not in PROTECTION:
            yield f"{resource.name}: no rule says how a {resource.type} is protected"
            continue
        for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
            if resource.body.get(policy) not in _KEPT and resource.type != "AWS::SQS::Queue":
                yield f"{resource.name}: {policy} {resource.body.get(policy, 'Delete')} loses its data"
        for path, wanted in PROTECTION[resource.type].items():
            value = _at(resource, path)
            if value is None or (wanted is not ... and value != wanted):
                yield f"{resource.name}: {path} is {value}"


def templates_have_room(templates: Templates) -> Iterator[str]:
    for path, template in templates.expanded.items():
        if (count := len(template["Resources"])) >= MAXIMUM_RESOURCES:
            yield f"{path}: {count} resources, of {MAXIMUM_RESOURCES}"


def stacks_fit_together(templates: Templates) -> Iterator[str]:
    """What the root passes to a nested stack and takes from it exists there, and nothing is left over."""
    stacks = {stack.logical_id: stack for stack in templates.written("AWS::CloudFormation::Stack")}
    taken: dict[str, set[str]] = {name: set() for name in stacks}
    root = templates.sources[ROOT]
    for logical_id, attribute in references([root["Resources"], root.get("Globals"), root.get("Outputs")]):
        if logical_id in stacks and attribute.startswith("Outputs."):
            taken[logical_id].add(attribute.removeprefix("Outputs."))
    for name, stack in stacks.items():
        nested = templates.sources[stack.properties["TemplateURL"]]
        outputs, parameters = set(nested.get("Outputs") or {}), nested.get("Parameters") or {}
        passed = set(stack.properties.get("Parameters") or {})
        required = {parameter for parameter, body in parameters.items() if "Default" not in body}
        yield from (f"{name}: has no output {output}" for output in sorted(taken[name] - outputs))
        yield from (f"{name}: nobody takes its output {output}" for output in sorted(outputs - taken[name]))
        yield from (f"{name}: has no parameter {parameter}" for parameter in sorted(passed - parameters.keys()))
        yield from (f"{name}: needs a {parameter}" for parameter in sorted(required - passed))


def topics_are_declared(templates: Templates, *, produced: Collection[str]) -> Iterator[str]:
    """Brokers make no topic by themselves: what is produced, consumed or put aside is declared, and nothing else."""
    declared = {topic.properties["TopicName"] for topic in templates.written("AWS::MSK::Topic")}
    needed = set(produced)
    for function in templates.written("AWS::Serverless::Function"):
        for event in (function.properties.get("Events") or {}).values():
            needed |= set(event["Properties"]["Topics"]) if event["Type"] == "MSK" else set()
        if group := (function.properties.get("Environment") or {}).get("Variables", {}).get("CONSUMER_GROUP"):
            needed.add(f"{group}.dlt")
    yield from (f"{topic}: not declared" for topic in sorted(needed - declared))
    yield from (f"{topic}: nobody writes or reads it" for topic in sorted(declared - needed))


def two_way_routes_can_answer(templates: Templates) -> Iterator[str]:
    """API Gateway drops what a function returns unless the route has a route response."""
    answering = {
        logical_id
        for response in templates.deployed("AWS::ApiGatewayV2::RouteResponse")
        for logical_id, _ in references(response.properties["RouteId"])
    }
    for route in templates.deployed("AWS::ApiGatewayV2::Route"):
        if "RouteResponseSelectionExpression" in route.properties and route.logical_id not in answering:
            yield f"{route.name}: has no route response"


def gateway_answers_have_headers(templates: Templates, *, wanted: Mapping[str, str]) -> Iterator[str]:
    """What API Gateway answers itself has the headers that functions' answers have; it knows only constants."""
    for api in templates.written("AWS::Serverless::Api"):
        responses = api.properties.get("GatewayResponses") or {}
        for missing in sorted({"DEFAULT_4XX", "DEFAULT_5XX"} - responses.keys()):
            yield f"{missing}: API Gateway words it itself"
        for type_, response in responses.items():
            headers = response["ResponseParameters"]["Headers"]
            for name, value in wanted.items():
                if headers.get(name) != f"'{value}'":
                    yield f"{type_}: {name} is {headers.get(name)}"


def one_origin_may_call(templates: Templates) -> Iterator[str]:
    """Pages of one origin, which the stage's parameter names, and without cookies (https://fetch.spec.whatwg.org)."""
    configured = {"Fn::Sub": "'${CorsOrigin}'"}
    pattern = templates.sources[ROOT]["Parameters"]["CorsOrigin"]["AllowedPattern"]
    for any_origin in ("*", "null", "https://*", "https://example.org/", "http://example.org", ""):
        if re.fullmatch(pattern, any_origin):
            yield f"CorsOrigin: may be {any_origin!r}"
    for api in templates.written("AWS::Serverless::Api"):
        cors = api.properties["Cors"]
        if cors.get("AllowOrigin") != configured:
            yield f"{api.name}: any origin may call"
        if cors.get("AllowCredentials"):
            yield f"{api.name}: pages may send cookies, and nothing here reads any"
        if "AllowMethods" in cors:
            yield f"{api.name}: preflights name methods that a path does not have"
        if "MaxAge" not in cors:
            yield f"{api.name}: preflights are not kept"
        for type_, response in (api.properties.get("GatewayResponses") or {}).items():
            if response["ResponseParameters"]["Headers"].get("Access-Control-Allow-Origin") != configured:
                yield f"{type_}: any origin may read it"


def _stateful_types() -> set[str]:
    """Those that cfn-lint knows to hold data. Found without importing it, which takes a second."""
    package = find_spec("cfnlint")
    assert package is not None
    assert package.origin is not None
    specification = Path(package.origin).parent / "data" / "AdditionalSpecs" / "StatefulResources.json"
    return set(json.loads(specification.read_text())["ResourceTypes"])


def _at(resource: Resource, path: str) -> Any:
    value: Any = resource.properties
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
