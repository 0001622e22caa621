"""Rules for functions: logs, tags, time limits, failures, environment, and the shape of their declarations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from tests.support.template_rules.templates import ROOT, Resource, Templates, references

SERVERLESS = "AWS::Serverless::Function"
FUNCTION = "AWS::Lambda::Function"

# The stack of the functions' log groups, and what it says that their names begin with.
LOGS = "stacks/logs.yaml"
LOGS_PREFIX = "${Logs.Outputs.Prefix}"

# API Gateway answers 504 after 29 s, whatever the function does then.
ANSWER_WITHIN_SECONDS = 29
# An event source mapping of Kafka takes functions of at most 14 minutes.
CONSUME_WITHIN_SECONDS = 840

KEY_ORDER = (
    "Type",
    "Metadata",
    "Condition",
    "DependsOn",
    "DeletionPolicy",
    "UpdateReplacePolicy",
    "UpdatePolicy",
    "Properties",
)
FUNCTION_KEY_ORDER = (
    "CodeUri",
    "MemorySize",
    "Timeout",
    "ReservedConcurrentExecutions",
    "Layers",
    "LoggingConfig",
    "Environment",
    "Policies",
    "EventInvokeConfig",
    "Events",
)

_ASYNCHRONOUS = {"Schedule", "ScheduleV2", "EventBridgeRule", "CloudWatchEvent", "SNS", "S3"}
_SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSPHRASE|TOKEN|CREDENTIAL|PRIVATE|API_?KEY|(^|_)KEYS?(_|$)")
_GRANTED_ROLE = re.compile(r"\$\{Data\.Outputs\.DatabaseUserArn\}/(\$\{[\w.]+\}|\w+|\*)")
_SECRET_VALUE = re.compile(
    r"\{\{resolve:(secretsmanager|ssm-secure)"  # would stand in the function's configuration, readable
    r"|://[^/@\s:]*:[^/@\s]+@"  # a password in an address
    r"|AKIA[0-9A-Z]{16}|-----BEGIN|eyJ[\w-]{10,}\.",  # an access key, a PEM block, a JWT
)


def functions_log_to_groups_with_retention(templates: Templates) -> Iterator[str]:
    """Lambda makes a missing log group itself, and keeps its lines for ever."""
    own: set[tuple[str, Any]] = set()
    for group in templates.deployed("AWS::Logs::LogGroup"):
        own.add((group.template, group.logical_id))
        if "RetentionInDays" not in group.properties:
            yield f"{group.name}: no RetentionInDays"
    named = {f"{LOGS_PREFIX}/{path}" for path in _log_groups(templates).values()}
    for function in templates.deployed(FUNCTION):
        group = (function.properties.get("LoggingConfig") or {}).get("LogGroup", {})
        if (function.template, group.get("Ref")) not in own and group.get("Fn::Sub") not in named:
            yield f"{function.name}: LoggingConfig.LogGroup is no log group of the templates"


def functions_have_an_owner(templates: Templates) -> Iterator[str]:
    for function in templates.deployed(FUNCTION):
        if "owner" not in {tag["Key"] for tag in function.properties.get("Tags", [])}:
            yield f"{function.name}: no owner tag"


def timeouts_fit_their_callers(templates: Templates) -> Iterator[str]:
    """Explicit everywhere, and no longer than the caller waits."""
    default = templates.sources[ROOT].get("Globals", {}).get("Function", {}).get("Timeout")
    answering = set(_answering_functions(templates))
    for function in templates.written(SERVERLESS, FUNCTION):
        timeout = function.properties.get("Timeout", default if function.template == ROOT else None)
        kinds = {event["Type"] for event in _events(function)}
        if timeout is None:
            yield f"{function.name}: no Timeout, so Lambda's 3 s"
        elif function.name in answering and timeout > ANSWER_WITHIN_SECONDS:
            yield f"{function.name}: answers API Gateway, which waits {ANSWER_WITHIN_SECONDS} s and not {timeout} s"
        elif "MSK" in kinds and timeout > CONSUME_WITHIN_SECONDS:
            yield f"{function.name}: consumes Kafka, with at most {CONSUME_WITHIN_SECONDS} s and not {timeout} s"


def failures_go_somewhere(templates: Templates, *, excused: Mapping[str, str]) -> Iterator[str]:
    """An asynchronous invocation that failed for good, or a poisoned record, must end where somebody finds it."""
    lost = set()
    for function in templates.written(SERVERLESS):
        destination = (function.properties.get("EventInvokeConfig") or {}).get("DestinationConfig") or {}
        asynchronous = "EventInvokeConfig" in function.properties or any(
            event["Type"] in _ASYNCHRONOUS for event in _events(function)
        )
        if asynchronous and "OnFailure" not in destination:
            lost.add(function.name)
        for name, event in (function.properties.get("Events") or {}).items():
            partial = "ReportBatchItemFailures" in (event["Properties"].get("FunctionResponseTypes") or [])
            if event["Type"] in ("MSK", "SQS") and not partial:
                yield f"{function.name}: {name} fails whole batches; report batch item failures"
    yield from (f"{name}: invoked asynchronously without an OnFailure destination" for name in lost - excused.keys())
    yield from _unneeded(excused, lost)


def environments_hold_no_secrets(templates: Templates) -> Iterator[str]:
    """A variable may name a secret; whoever may describe a function must not read one."""
    for function in templates.deployed(FUNCTION):
        hidden = {name for name, parameter in _parameters(templates, function).items() if parameter.get("NoEcho")}
        for name, value in (function.properties.get("Environment") or {}).get("Variables", {}).items():
            if isinstance(value, str) and value and _SECRET_NAME.search(name):
                yield f"{function.name}: {name} is written out; let it name a secret"
            elif any(_SECRET_VALUE.search(text) for text in _texts(value)):
                yield f"{function.name}: {name} holds a secret; let it name one"
            elif hidden & {logical_id for logical_id, _ in references(value)}:
                yield f"{function.name}: {name} holds a NoEcho parameter, which anyone could read there"


def functions_connect_as_their_own_service(templates: Templates, *, excused: Mapping[str, str]) -> Iterator[str]:
    """`DATABASE_ROLE` is the service's, and the one role that the policy allows."""
    strangers = set()
    for function in templates.written(SERVERLESS):
        role = _role((function.properties.get("Environment") or {}).get("Variables", {}).get("DATABASE_ROLE"))
        granted = set(_GRANTED_ROLE.findall(str(function.properties.get("Policies"))))
        if granted != ({role} if role else set()):
            yield f"{function.name}: connects as {role}, and may connect as {', '.join(sorted(granted)) or 'nobody'}"
        if role and role != _service(function):
            strangers.add(function.name)
    yield from (f"{name}: connects with the role of another service" for name in strangers - excused.keys())
    yield from _unneeded(excused, strangers)


def functions_that_send_mail_may(templates: Templates) -> Iterator[str]:
    """`MAIL_FROM` and the right to send go together, and the right is to send as this stage does."""
    for function in templates.written(SERVERLESS):
        variables = (function.properties.get("Environment") or {}).get("Variables", {})
        granted = [
            statement["Resource"]
            for policy in function.properties.get("Policies") or ()
            for statement in policy.get("Statement", ())
            if any(action.startswith("ses:") for action in statement["Action"])
        ]
        sends = {"MAIL_FROM", "MAIL_CONFIGURATION_SET"} <= variables.keys()
        if sends and granted != [{"Fn::Split": [",", {"Fn::GetAtt": ["Mail", "Outputs.SenderArns"]}]}]:
            yield f"{function.name}: sends mail, and may send as {granted or 'nobody'}"
        elif granted and not sends:
            yield f"{function.name}: may send mail, and does not say from whom or by which configuration set"


def _role(value: Any) -> str | None:
    """A role's name, or for one that a nested stack names the `${…}` that a policy would refer to it by."""
    return f"${{{'.'.join(value['Fn::GetAtt'])}}}" if isinstance(value, dict) else value


def declarations_have_one_order(templates: Templates) -> Iterator[str]:
    for resource in templates.written():
        yield from _out_of_order(resource.name, resource.body, KEY_ORDER)
        if resource.type == SERVERLESS:
            yield from _out_of_order(resource.name, resource.properties, FUNCTION_KEY_ORDER)


def each_function_is_one_directory(templates: Templates) -> Iterator[str]:
    """`functions/<service>/<verb_noun>/app.py` is `<VerbNoun>Function`, and its log group is named after the path."""
    declared = set()
    unclaimed = _log_groups(templates)
    for function in templates.written(SERVERLESS):
        path = function.properties["CodeUri"]
        declared.add(path)
        service, name = path.split("/")[-2:]
        directory = templates.directory / path
        files = {file.name for file in directory.iterdir()} if directory.is_dir() else set()
        if files - {"__pycache__"} != {"app.py"}:
            yield f"{function.name}: {path} holds {', '.join(sorted(files)) or 'nothing'}, and should app.py alone"
        if function.logical_id not in (f"{_camel(name)}Function", f"{_camel(service)}{_camel(name)}Function"):
            yield f"{function.name}: {path} is called {_camel(name)}Function"
        group = function.logical_id.removesuffix("Function") + "LogGroup"
        if unclaimed.pop(group, None) != f"{service}/{name}":
            yield f"{function.name}: {group} of {LOGS} is not named after {path}"
        if function.properties.get("LoggingConfig") != {"LogGroup": {"Fn::Sub": f"{LOGS_PREFIX}/{service}/{name}"}}:
            yield f"{function.name}: logs to another group than that of {path}"
    present = {
        str(file.parent.relative_to(templates.directory)) for file in templates.directory.glob("functions/*/*/app.py")
    }
    yield from (f"{path}: no function of the template" for path in sorted(present - declared))
    yield from (f"{LOGS}:{group}: no function logs to it" for group in sorted(unclaimed))


def _log_groups(templates: Templates) -> dict[str, str]:
    """The functions' log groups by their ids, each as `service/name`."""
    groups = templates.sources[LOGS]["Resources"] if LOGS in templates.sources else {}
    names = {group: body["Properties"]["LogGroupName"].get("Fn::Sub", "") for group, body in groups.items()}
    return {group: name.removeprefix("${Prefix}/") for group, name in names.items()}


def _answering_functions(templates: Templates) -> Iterator[str]:
    """Those behind a route of either API, and authorizers."""
    apis = chain(templates.written("AWS::Serverless::Api"), templates.written("AWS::Serverless::WebSocketApi"))
    for api in apis:
        for part in ("Auth", "Routes"):
            yield from (
                logical_id for logical_id, attribute in references(api.properties.get(part)) if attribute == "Arn"
            )
    for function in templates.written(SERVERLESS):
        if any(event["Type"] in ("Api", "HttpApi") for event in _events(function)):
            yield function.name


def _events(function: Resource) -> Iterable[Mapping[str, Any]]:
    return (function.properties.get("Events") or {}).values()


def _parameters(templates: Templates, resource: Resource) -> Mapping[str, Any]:
    parameters: Mapping[str, Any] = templates.sources[resource.template].get("Parameters") or {}
    return parameters


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(_texts(inner) for inner in value.values())
    elif isinstance(value, list):
        yield from chain.from_iterable(_texts(inner) for inner in value)


def _service(function: Resource) -> str:
    return str(function.properties["CodeUri"]).split("/")[1]


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _out_of_order(name: str, keys: Mapping[str, Any], order: tuple[str, ...]) -> Iterator[str]:
    known = [key for key in keys if key in order]
    if known != sorted(known, key=order.index):
        yield f"{name}: {', '.join(known)} should stand as {', '.join(sorted(known, key=order.index))}"
    if unknown := [key for key in keys if key not in order]:
        yield f"{name}: {', '.join(unknown)} has no place in the order of keys"


def _unneeded(excused: Mapping[str, str], needed: set[str]) -> Iterator[str]:
    yield from (f"{name}: needs no excuse any more" for name in excused.keys() - needed)
