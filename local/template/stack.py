"""One template as CloudFormation would get it: SAM's macros expanded, and every reference with its local value."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.application import ACCOUNT_ID, REGION, api_id, function_arn
from local.template.intrinsics import Resolver, TemplateError, scalar

_STACK_NAME = "local"
_PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT_ID,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": _STACK_NAME,
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT_ID}:stack/{_STACK_NAME}/local",
}

# The translator takes code from S3 alone, as CloudFormation does after `sam package`: local paths travel
# through it as keys of a bucket that does not exist.
_LOCAL_BUCKET = "local"
_LOCAL_PATHS = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}


class CircularStacksError(TemplateError):
    """Nested stacks want each other's outputs."""


@dataclass(frozen=True)
class Resource:
    """A resource of the expanded template; `get` resolves a property when it is asked for.

    What nobody asks for is never resolved, so that a subnet id without a local value hurts nobody.
    """

    stack: Stack
    logical_id: str
    type: str
    properties: Mapping[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        value = self.stack.resolver.resolve(self.properties.get(name), self.place(name))
        return default if value is None else value

    def place(self, name: str) -> str:
        return f"{self.stack.prefix}{self.logical_id}.{name}"

    def error(self, name: str, problem: str) -> TemplateError:
        return TemplateError(self.place(name), problem)

    def refuse(self, *names: str, because: str) -> None:
        """Raise TemplateError when one of these properties is given."""
        for name in names:
            if self.properties.get(name):
                raise self.error(name, f"{because}, and leaving it out would hide what is deployed")

    def path(self, name: str, bucket_key: str = "S3Bucket", object_key: str = "S3Key") -> Path:
        """The local file or directory a code property names."""
        location = self.properties.get(name)
        if not isinstance(location, Mapping) or location.get(bucket_key) != _LOCAL_BUCKET:
            raise self.error(name, f"must be a local path, got {location!r}")
        path = (self.stack.directory / str(location[object_key])).resolve()
        if not path.exists():
            raise self.error(name, f"{path} does not exist")
        return path


class Stack:
    """A template with its parameters, and the stacks nested in it.

    `overrides` holds parameter values, and `{"LogicalId": {"Ref": …, "Arn": …, "Outputs.Name": …}}` for
    what a resource cannot know here. Raises TemplateError when the file is no template that SAM accepts.
    """

    def __init__(
        self, template: Path, *, overrides: Mapping[str, object], aws_endpoint: str, logical_id: str = ""
    ) -> None:
        self.template = template
        self.directory = template.resolve().parent
        self.prefix = f"{logical_id}." if logical_id else ""
        self._overrides = overrides
        self._aws_endpoint = aws_endpoint
        source = _parse(template)
        self._parameters: Mapping[str, Any] = source.get("Parameters") or {}
        self._outputs: Mapping[str, Any] = source.get("Outputs") or {}
        self._check_overrides(source)
        document = _expand(source, self._parameter_values(), template)
        self.resolver = Resolver(document, self.reference)
        self._nested: dict[str, Stack] = {}
        self._being_read: set[str] = set()
        self.resources: Mapping[str, Resource] = {}
        self.resources = {
            name: Resource(self, name, resource["Type"], resource.get("Properties") or {})
            for name, resource in document["Resources"].items()
            if "Condition" not in resource or self.resolver.holds(resource["Condition"], f"{self.prefix}{name}")
        }

    def reference(self, logical_id: str, attribute: str) -> object:
        """What `Ref` or `Fn::GetAtt` gives on this machine. Raises LookupError, saying why, if nothing does."""
        override = self._overrides.get(logical_id)
        if isinstance(override, Mapping) and attribute in override:
            return override[attribute]
        if logical_id in _PSEUDO_PARAMETERS:
            return _PSEUDO_PARAMETERS[logical_id]
        if logical_id in self._parameters:
            return self._parameter(logical_id)
        resource = self.resources.get(logical_id)
        if resource is None:
            raise LookupError(f"there is no {logical_id} in {self.template.name}")
        try:
            return self._value_of(resource, attribute)
        except LookupError as error:
            if self.prefix:
                raise
            hint = f'give it as an override: {{"{logical_id}": {{"{attribute}": …}}}}'
            raise LookupError(f"{error.args[0]}; {hint}") from None

    def _value_of(self, resource: Resource, attribute: str) -> object:
        if resource.type == "AWS::CloudFormation::Stack" and attribute.startswith("Outputs."):
            return self.nested(resource.logical_id).output(attribute.removeprefix("Outputs."))
        values = _REFERENCES[resource.type](resource) if resource.type in _REFERENCES else {}
        if attribute in values:
            return values[attribute]
        raise LookupError(f"{attribute} of {resource.logical_id} ({resource.type}) has no value on one machine")

    def nested(self, logical_id: str) -> Stack:
        """The stack nested as this resource, read when first asked for: its parameters may be another's outputs."""
        if logical_id not in self._nested:
            resource = self.resources[logical_id]
            if logical_id in self._being_read:
                raise CircularStacksError(resource.place("Parameters"), "depend on this stack's own outputs")
            self._being_read.add(logical_id)
            self._nested[logical_id] = Stack(
                self.directory / _nested_template(resource),
                overrides=_nested_parameters(resource),
                aws_endpoint=self._aws_endpoint,
                logical_id=f"{self.prefix}{logical_id}",
            )
        return self._nested[logical_id]

    def output(self, name: str) -> object:
        if name not in self._outputs:
            raise LookupError(f"{self.template.name} has no output {name}")
        try:
            return self.resolver.resolve(self._outputs[name]["Value"], f"output {name} of {self.template.name}")
        except TemplateError as error:
            raise LookupError(str(error)) from None

    def all_resources(self) -> Iterator[Resource]:
        """The resources of this stack and of those nested in it."""
        yield from self.resources.values()
        for logical_id, resource in self.resources.items():
            if resource.type == "AWS::CloudFormation::Stack":
                yield from self.nested(logical_id).all_resources()

    def queue_url(self, name: str) -> str:
        return f"{self._aws_endpoint}/{ACCOUNT_ID}/{name}"

    def _parameter(self, name: str) -> object:
        declaration = self._parameters[name]
        value = self._overrides.get(name)
        if value is None:
            if str(declaration.get("Type", "")).startswith("AWS::SSM::"):
                raise LookupError(f"parameter {name} comes from SSM when deployed; pass its value")
            if "Default" not in declaration:
                raise LookupError(f"parameter {name} has no default; pass its value")
            value = declaration["Default"]
        type_ = str(declaration.get("Type", "String"))
        if type_ == "CommaDelimitedList" or type_.startswith("List<"):
            return value if isinstance(value, list) else [item.strip() for item in str(value).split(",")]
        return scalar(value, f"parameter {name}")

    def _parameter_values(self) -> dict[str, object]:
        values = {}
        for name in self._parameters:
            try:
                values[name] = self._parameter(name)
            except LookupError:
                continue  # an error only where something asks for it
        return values

    def _check_overrides(self, source: Mapping[str, Any]) -> None:
        for name in self._overrides:
            if name not in self._parameters and name not in source["Resources"]:
                raise TemplateError(
                    self.prefix.rstrip("."), f"{self.template.name} has no parameter or resource {name}"
                )


def physical_name(resource: Resource, property_: str) -> str:
    """The name AWS would know the resource by: its name property, or else its logical id."""
    return scalar(resource.get(property_, resource.logical_id), resource.place(property_))


def queue_name(resource: Resource) -> str:
    name = physical_name(resource, "QueueName")
    fifo = resource.get("FifoQueue", False) in (True, "true")
    return f"{name}.fifo" if fifo and not name.endswith(".fifo") else name


def bucket_name(resource: Resource) -> str:
    return physical_name(resource, "BucketName").lower()


def _arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{resource}"


def _function(resource: Resource) -> dict[str, object]:
    return {"Ref": resource.logical_id, "Arn": function_arn(resource.logical_id)}


def _function_version(resource: Resource) -> dict[str, object]:
    """An alias or version runs the one code there is, so its ARN is the function's."""
    name = str(resource.get("FunctionName")).rpartition(":")[2]
    return {"Ref": function_arn(name), "AliasArn": function_arn(name)}


def _layer(resource: Resource) -> dict[str, object]:
    return {"Ref": _arn("lambda", f"layer:{resource.logical_id}:1")}


def _queue(resource: Resource) -> dict[str, object]:
    name = queue_name(resource)
    url = resource.stack.queue_url(name)
    return {"Ref": url, "QueueUrl": url, "QueueName": name, "Arn": _arn("sqs", name)}


def _topic(resource: Resource) -> dict[str, object]:
    name = physical_name(resource, "TopicName")
    return {"Ref": _arn("sns", name), "TopicArn": _arn("sns", name), "TopicName": name}


def _bucket(resource: Resource) -> dict[str, object]:
    return {"Ref": bucket_name(resource), "Arn": f"arn:aws:s3:::{bucket_name(resource)}"}


def _secret(resource: Resource) -> dict[str, object]:
    # Without the random suffix of a complete ARN: Secrets Manager takes such a partial ARN as well.
    arn = _arn("secretsmanager", f"secret:{physical_name(resource, 'Name')}")
    return {"Ref": arn, "Id": arn}


def _state_machine(resource: Resource) -> dict[str, object]:
    name = physical_name(resource, "StateMachineName")
    arn = _arn("states", f"stateMachine:{name}")
    return {"Ref": arn, "Arn": arn, "Name": name}


def _rest_api(resource: Resource) -> dict[str, object]:
    return {"Ref": api_id(resource.logical_id), "RestApiId": api_id(resource.logical_id)}


def _websocket_api(resource: Resource) -> dict[str, object]:
    id_ = api_id(resource.logical_id)
    return {"Ref": id_, "ApiId": id_, "ApiEndpoint": f"wss://{id_}.execute-api.{REGION}.amazonaws.com"}


def _stage(resource: Resource) -> dict[str, object]:
    return {"Ref": resource.get("StageName")}


def _logical_id(resource: Resource) -> dict[str, object]:
    return {"Ref": resource.logical_id}


def _parameter(resource: Resource) -> dict[str, object]:
    return {"Ref": physical_name(resource, "Name"), "Value": resource.get("Value")}


def _role(resource: Resource) -> dict[str, object]:
    name = physical_name(resource, "RoleName")
    return {"Ref": name, "Arn": f"arn:aws:iam::{ACCOUNT_ID}:role/{name}"}


def _key(resource: Resource) -> dict[str, object]:
    return {"Ref": resource.logical_id, "Arn": _arn("kms", f"key/{resource.logical_id}")}


def _log_group(resource: Resource) -> dict[str, object]:
    return {"Ref": physical_name(resource, "LogGroupName")}


_REFERENCES: Mapping[str, Callable[[Resource], dict[str, object]]] = {
    "AWS::ApiGateway::RestApi": _rest_api,
    "AWS::ApiGateway::Stage": _stage,
    "AWS::ApiGatewayV2::Api": _websocket_api,
    "AWS::ApiGatewayV2::Authorizer": _logical_id,
    "AWS::ApiGatewayV2::Integration": _logical_id,
    "AWS::ApiGatewayV2::Route": _logical_id,
    "AWS::ApiGatewayV2::Stage": _stage,
    "AWS::IAM::Role": _role,
    "AWS::KMS::Key": _key,
    "AWS::Lambda::Alias": _function_version,
    "AWS::Lambda::Function": _function,
    "AWS::Lambda::LayerVersion": _layer,
    "AWS::Lambda::Version": _function_version,
    "AWS::Logs::LogGroup": _log_group,
    "AWS::S3::Bucket": _bucket,
    "AWS::SNS::Topic": _topic,
    "AWS::SQS::Queue": _queue,
    "AWS::SSM::Parameter": _parameter,
    "AWS::SecretsManager::Secret": _secret,
    "AWS::StepFunctions::StateMachine": _state_machine,
}


def _nested_template(resource: Resource) -> str:
    url = resource.get("TemplateURL")
    if not isinstance(url, str) or "://" in url:
        raise resource.error("TemplateURL", f"must be a local path, got {url!r}")
    return url


def _nested_parameters(resource: Resource) -> dict[str, object]:
    parameters = {}
    for name, value in (resource.properties.get("Parameters") or {}).items():
        try:
            parameters[name] = resource.stack.resolver.resolve(value, resource.place(f"Parameters.{name}"))
        except CircularStacksError:
            raise
        except TemplateError:
            continue  # the nested stack says that the parameter has no value where something asks for it
    return parameters


def _parse(template: Path) -> dict[str, Any]:
    from samcli.yamlhelper import yaml_parse

    try:
        source = yaml_parse(template.read_text())
    except OSError as error:
        raise TemplateError("", f"cannot read {template}: {error.strerror}") from error
    except Exception as error:  # the YAML, JSON and tag errors of yaml_parse have no common base
        raise TemplateError("", f"{template} is not a template: {error}") from error
    if not isinstance(source, dict) or not isinstance(source.get("Resources"), dict):
        raise TemplateError("", f"{template} is not a template: it has no Resources")
    return source


def _expand(source: dict[str, Any], parameters: dict[str, object], template: Path) -> dict[str, Any]:
    """The template after SAM's transform, which is what CloudFormation deploys."""
    transforms = source.get("Transform", [])
    if "AWS::Serverless-2016-10-31" not in ([transforms] if isinstance(transforms, str) else transforms):
        return source
    import boto3
    from samtranslator.metrics.metrics import DummyMetricsPublisher, Metrics
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    metrics = Metrics("local", DummyMetricsPublisher())
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=REGION), metrics=metrics)
    try:
        return translator.translate(_with_keys_for_paths(source), parameters)
    except InvalidDocumentException as error:
        problems = "; ".join(cause.message for cause in error.causes) or error.message
        raise TemplateError("", f"SAM refuses {template.name}: {problems}") from error
    finally:
        metrics.publish()  # to nobody; it warns on stderr when that is left out


def _with_keys_for_paths(source: dict[str, Any]) -> dict[str, Any]:
    source = copy.deepcopy(source)
    function_globals = (source.get("Globals") or {}).get("Function") or {}
    owners = [(function_globals, "CodeUri")] if "CodeUri" in function_globals else []
    owners += [
        (resource.setdefault("Properties", {}), _LOCAL_PATHS[resource["Type"]])
        for resource in source["Resources"].values()
        if resource.get("Type") in _LOCAL_PATHS
    ]
    for properties, property_ in owners:
        path = properties.get(property_)
        if isinstance(path, str) and "://" not in path:
            properties[property_] = f"s3://{_LOCAL_BUCKET}/{path}"
    return source
