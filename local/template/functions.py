"""Functions with their layers and invoke configuration."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from local.application import REGION, AsyncInvokeConfig, Function
from local.template.intrinsics import scalar
from local.template.stack import Resource, Stack

_LOG = logging.getLogger(__name__)
_FUNCTION_IN_ARN = re.compile(r":function:([A-Za-z0-9-_]+)")
_LAMBDA_DEFAULT_TIMEOUT_SECONDS = 3
_LAMBDA_DEFAULT_MEMORY_MB = 128


def read_functions(stack: Stack, *, gateway_endpoint: str) -> dict[str, Function]:
    """Every function by logical id.

    An `execute-api` address of one of the template's APIs in an environment variable becomes the local
    gateway's, so that the template is written for AWS alone.
    """
    layers = {
        resource.stack.reference(resource.logical_id, "Ref"): _layer_path(resource)
        for resource in stack.all_resources()
        if resource.type == "AWS::Lambda::LayerVersion"
    }
    addresses = _gateway_addresses(stack, gateway_endpoint)
    functions: dict[str, Function] = {}
    for resource in stack.all_resources():
        if resource.type == "AWS::Lambda::Function" and not _serves_deployment(resource):
            if resource.logical_id in functions:
                raise resource.error("", "another stack declares a function of this name")
            functions[resource.logical_id] = _read_function(resource, layers, addresses)
    for resource in stack.all_resources():
        if resource.type == "AWS::Lambda::EventInvokeConfig":
            name = function_name(resource, "FunctionName", functions)
            functions[name] = dataclasses.replace(functions[name], async_invoke=_read_invoke_config(resource))
    return functions


def function_name(resource: Resource, property_: str, functions: Mapping[str, Function], text: object = None) -> str:
    """The function that a property (or `text`, a part of it) names by name, ARN or API Gateway integration URI."""
    value = str(resource.get(property_) if text is None else text)
    match = _FUNCTION_IN_ARN.search(value)
    name = match[1] if match else value
    if name not in functions:
        raise resource.error(property_, f"{value} is none of the template's functions ({', '.join(functions)})")
    return name


def queue_arn(resource: Resource, property_: str, config: object) -> str | None:
    """The queue of a `DestinationConfig`'s `OnFailure`, the only destination there is on one machine."""
    if not isinstance(config, Mapping):
        return None
    if config.get("OnSuccess"):
        raise resource.error(f"{property_}.OnSuccess", "is not supported; OnFailure is")
    arn = (config.get("OnFailure") or {}).get("Destination")
    if arn is not None and not str(arn).startswith("arn:aws:sqs:"):
        raise resource.error(f"{property_}.OnFailure.Destination", f"must be the ARN of a queue, got {arn}")
    return arn


def _serves_deployment(resource: Resource) -> bool:
    """Code written into the template itself is a custom resource's, which CloudFormation alone calls."""
    return "ZipFile" in (resource.properties.get("Code") or {})


def _read_function(resource: Resource, layers: Mapping[object, Path], addresses: Mapping[str, str]) -> Function:
    resource.refuse("DeadLetterConfig", because="a dead letter queue is not supported; use EventInvokeConfig")
    resource.refuse("FileSystemConfigs", "ImageConfig", "SnapStart", because="is not supported on one machine")
    if not str(resource.get("Runtime", "")).startswith("python"):
        raise resource.error("Runtime", f"must be a Python runtime, got {resource.get('Runtime')}")
    code = resource.path("Code")
    if not code.is_dir():
        raise resource.error("CodeUri", f"{code} is not a directory")
    return Function(
        name=resource.logical_id,
        handler=str(resource.get("Handler")),
        code=code,
        layers=_read_layers(resource, layers),
        timeout_seconds=float(resource.get("Timeout", _LAMBDA_DEFAULT_TIMEOUT_SECONDS)),
        memory_mb=int(resource.get("MemorySize", _LAMBDA_DEFAULT_MEMORY_MB)),
        environment=_read_environment(resource, addresses),
        reserved_concurrency=resource.get("ReservedConcurrentExecutions"),
    )


def _read_layers(resource: Resource, layers: Mapping[object, Path]) -> tuple[Path, ...]:
    paths = []
    for arn in resource.get("Layers", []):
        if arn in layers:
            paths.append(layers[arn])
        else:
            _LOG.warning("%s: layer %s is not in the template and stays out", resource.logical_id, arn)
    return tuple(paths)


def _layer_path(resource: Resource) -> Path:
    """What the layer puts on `sys.path`: its `python` folder when it is laid out as in /opt, else its source."""
    content = resource.path("Content")
    return content / "python" if (content / "python").is_dir() else content


def _read_environment(resource: Resource, addresses: Mapping[str, str]) -> dict[str, str]:
    environment = {}
    for name, value in (resource.get("Environment") or {}).get("Variables", {}).items():
        place = resource.place(f"Environment.Variables.{name}")
        text = scalar(value, place)
        if "{{resolve:" in text:
            raise resource.error(f"Environment.Variables.{name}", "a dynamic reference has no value on one machine")
        for prefix, address in addresses.items():
            text = text.replace(prefix, address)
        environment[name] = text
    return environment


def _gateway_addresses(stack: Stack, gateway_endpoint: str) -> dict[str, str]:
    """The invoke URLs of the template's API stages, each with what serves it here; longest first."""
    addresses = {}
    for resource in stack.all_resources():
        if resource.type == "AWS::ApiGateway::Stage":
            api, local = resource.get("RestApiId"), gateway_endpoint
        elif resource.type == "AWS::ApiGatewayV2::Stage":
            api, local = resource.get("ApiId"), f"{gateway_endpoint}/ws"
        else:
            continue
        host = f"{api}.execute-api.{REGION}.amazonaws.com/{resource.get('StageName')}"
        addresses[f"https://{host}"] = local
        addresses[f"wss://{host}"] = local.replace("http", "ws", 1)
    return addresses


def _read_invoke_config(resource: Resource) -> AsyncInvokeConfig:
    defaults = AsyncInvokeConfig()
    return AsyncInvokeConfig(
        maximum_retry_attempts=int(resource.get("MaximumRetryAttempts", defaults.maximum_retry_attempts)),
        maximum_event_age_seconds=int(resource.get("MaximumEventAgeInSeconds", defaults.maximum_event_age_seconds)),
        on_failure_arn=queue_arn(resource, "DestinationConfig", resource.get("DestinationConfig")),
    )
