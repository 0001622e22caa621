"""The templates keep the project's rules, and each rule notices when one does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eventsplatform.entrypoints.http import DEFAULT_HEADERS
from eventsplatform.messaging.model import INBOUND_TOPIC, TOPICS
from tests.support.template_rules.functions import (
    LOGS,
    declarations_have_one_order,
    each_function_is_one_directory,
    environments_hold_no_secrets,
    failures_go_somewhere,
    functions_connect_as_their_own_service,
    functions_have_an_owner,
    functions_log_to_groups_with_retention,
    functions_that_send_mail_may,
    timeouts_fit_their_callers,
)
from tests.support.template_rules.infrastructure import (
    MAXIMUM_RESOURCES,
    data_is_protected,
    gateway_answers_have_headers,
    one_origin_may_call,
    stacks_fit_together,
    templates_have_room,
    topics_are_declared,
    two_way_routes_can_answer,
)
from tests.support.template_rules.permissions import (
    managed_policies_are_known,
    permissions_are_needed,
    statements_name_their_resources,
)
from tests.support.template_rules.templates import ROOT, Sources, Templates

PROJECT = Path(__file__).parents[2]

WITHOUT_A_FAILURE_DESTINATION = {
    "BridgeFromNatsFunction": "what one run leaves in the stream the next one brings over, from where it stopped",
    "CompleteEventsFunction": "what one run leaves is completed by the next, a minute later",
    "CloseConnectionsFunction": "what one run leaves open, the sweep of the next minute closes",
    "CreatePartitionsFunction": "what one run does not make the next does, weeks before it is needed",
    "ExtendOutboxFunction": "what one run does not make the next does, weeks before it is needed",
    "DeleteExpiredFunction": "what one run leaves is deleted by the next",
    "RedactLateRowsFunction": "what one run leaves is found by the next, an hour later",
    "ExpireOffersFunction": "what one run leaves the next does a minute later",
    "SendAttendeeMailsFunction": "what one run leaves waits in its table, and the next one sends it a minute later",
    "SendDeliveriesFunction": "what one run does not send is due still, and the sweep of the next minute sends it",
    "RelayOutboxFunction": "what one relay leaves is pending in the outbox, and the sweep of the next minute sends it",
}
WITH_ANOTHER_SERVICES_ROLE = {
    "CheckHealthFunction": "operations owns no schema; any role can tell whether the database answers",
    "MigrateDatabaseFunction": "operations owns no schema; migrations run as the administrator",
}
ON_EVERY_RESOURCE: dict[str, str] = {}
TOLD_BY_THE_EVENT = {
    "RotateSigningKeysFunction": "Secrets Manager names the secret in each step of a rotation",
    "RotateTicketKeysFunction": "Secrets Manager names the secret in each step of a rotation",
}
MANAGED_POLICIES = {
    "AWSLambdaBasicExecutionRole": "SAM gives it to every function: its own log lines",
    "AWSLambdaVPCAccessExecutionRole": "SAM gives it to functions in a VPC: no interface can be named before it exists",
    "AWSLambdaMSKExecutionRole": "SAM gives it to consumers of MSK: their mapping describes the cluster's network",
    "AmazonAPIGatewayPushToCloudWatchLogs": "the account's one role for the log lines of every API it has or will have",
    "AWSXrayWriteOnlyAccess": "SAM gives it to traced functions: X-Ray has no resources to name",
}

Rule = Callable[[Templates], Iterator[str]]
RULES: dict[str, Rule] = {
    "log groups": functions_log_to_groups_with_retention,
    "owner": functions_have_an_owner,
    "timeouts": timeouts_fit_their_callers,
    "failures": partial(failures_go_somewhere, excused=WITHOUT_A_FAILURE_DESTINATION),
    "secrets": environments_hold_no_secrets,
    "database roles": partial(functions_connect_as_their_own_service, excused=WITH_ANOTHER_SERVICES_ROLE),
    "mail": functions_that_send_mail_may,
    "order": declarations_have_one_order,
    "directories": each_function_is_one_directory,
    "resources of statements": partial(statements_name_their_resources, excused=ON_EVERY_RESOURCE),
    "needed permissions": partial(permissions_are_needed, excused=TOLD_BY_THE_EVENT),
    "managed policies": partial(managed_policies_are_known, known=MANAGED_POLICIES),
    "data": data_is_protected,
    "room": templates_have_room,
    "nested stacks": stacks_fit_together,
    "topics": partial(topics_are_declared, produced={*TOPICS.values(), INBOUND_TOPIC}),
    "route responses": two_way_routes_can_answer,
    "headers": partial(gateway_answers_have_headers, wanted=DEFAULT_HEADERS),
    "origins": one_origin_may_call,
}


@pytest.fixture(scope="module")
def templates() -> Templates:
    return Templates.load(PROJECT)


@pytest.mark.parametrize("rule", RULES)
def test_the_templates_keep_the_rule(rule: str, templates: Templates) -> None:
    assert list(RULES[rule](templates)) == []


def put(path: str, value: Any, template: str = ROOT) -> Callable[[Sources], None]:
    """A change that sets what stands at `Resource/Key/…` below Resources."""

    def change(sources: Sources) -> None:
        target: Any = sources[template]["Resources"]
        *parents, last = path.split("/")
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target.setdefault(key, {})
        target[last] = value

    return change


def drop(path: str, template: str = ROOT) -> Callable[[Sources], None]:
    def change(sources: Sources) -> None:
        target: Any = sources[template]["Resources"]
        *parents, last = path.split("/")
        for key in parents:
            target = target[key]
        del target[last]

    return change


def fill_up(sources: Sources) -> None:
    topic = {"Type": "AWS::SNS::Topic"}
    sources[ROOT]["Resources"] |= {f"Topic{number}": topic for number in range(MAXIMUM_RESOURCES)}


def pass_a_secret_parameter(sources: Sources) -> None:
    sources[ROOT]["Parameters"]["Pepper"] = {"Type": "String", "NoEcho": True}
    put("PingFunction/Properties/Environment/Variables/PEPPER", {"Ref": "Pepper"})(sources)


def forget_the_common_timeout(sources: Sources) -> None:
    del sources[ROOT]["Globals"]["Function"]["Timeout"]


def turn_around(sources: Sources) -> None:
    properties = sources[ROOT]["Resources"]["PingFunction"]["Properties"]
    sources[ROOT]["Resources"]["PingFunction"]["Properties"] = dict(reversed(properties.items()))


def grant(action: str, resource: str) -> Callable[[Sources], None]:
    statement = {"Effect": "Allow", "Action": [action], "Resource": resource}
    return put("PingFunction/Properties/Policies", [{"Statement": [statement]}])


DATA, MESSAGING = "stacks/data.yaml", "stacks/messaging.yaml"
MAIL = "SendAccountMailFunction/Properties"
VARIABLE = "PingFunction/Properties/Environment/Variables"
CORS, ANSWERS = "RestApi/Properties/Cors", "RestApi/Properties/GatewayResponses"
HEADERS = "ResponseParameters/Headers"


@pytest.mark.parametrize(
    ("rule", "change", "problem"),
    [
        ("log groups", drop("PingFunction/Properties/LoggingConfig"), "PingFunction: LoggingConfig.LogGroup is no"),
        ("log groups", drop("PingLogGroup/Properties/RetentionInDays", LOGS), "PingLogGroup: no RetentionInDays"),
        ("log groups", drop("PingLogGroup", LOGS), "PingFunction: LoggingConfig.LogGroup is no"),
        (
            "log groups",
            drop("DescribeBrokersFunction/Properties/LoggingConfig", MESSAGING),
            "DescribeBrokersFunction: Log",
        ),
        ("owner", drop("DescribeBrokersFunction/Properties/Tags", MESSAGING), "DescribeBrokersFunction: no owner tag"),
        ("timeouts", forget_the_common_timeout, "PingFunction: no Timeout"),
        ("timeouts", put("LoginFunction/Properties/Timeout", 30), "LoginFunction: answers API Gateway"),
        ("timeouts", put("PingFunction/Properties/Timeout", 30), "PingFunction: answers API Gateway"),
        ("timeouts", put("AuthorizeRequestFunction/Properties/Timeout", 30), "AuthorizeRequestFunction: answers API"),
        ("timeouts", put("FanOutFunction/Properties/Timeout", 900), "FanOutFunction: consumes Kafka"),
        (
            "failures",
            put("PingFunction/Properties/EventInvokeConfig/MaximumRetryAttempts", 1),
            "PingFunction: invoked asyn",
        ),
        ("failures", drop("RelayOutboxFunction"), "RelayOutboxFunction: needs no excuse any more"),
        (
            "failures",
            drop("FanOutFunction/Properties/Events/Events/Properties/FunctionResponseTypes"),
            "FanOutFunction: Events fails whole batches",
        ),
        ("secrets", put(f"{VARIABLE}/MAIL_PASSWORD", "hunter2"), "PingFunction: MAIL_PASSWORD is written out"),
        (
            "secrets",
            put(f"{VARIABLE}/NATS_URL", "nats://me:hunter2@nats:4222"),
            "PingFunction: NATS_URL holds a secret",
        ),
        (
            "secrets",
            put(f"{VARIABLE}/PEPPER", {"Fn::Sub": "{{resolve:secretsmanager:${JwtKeys}}}"}),
            "PingFunction: PEPPER holds a secret",
        ),
        ("secrets", pass_a_secret_parameter, "PingFunction: PEPPER holds a NoEcho parameter"),
        (
            "database roles",
            put("LoginFunction/Properties/Environment/Variables/DATABASE_ROLE", "catalog"),
            "LoginFunction: connects with the role of another service",
        ),
        (
            "database roles",
            put("LoginFunction/Properties/Policies", []),
            "LoginFunction: connects as identity, and may",
        ),
        (
            "mail",
            grant("ses:SendEmail", "arn:aws:ses:us-east-1:123456789012:identity/example.org"),
            "PingFunction: may send",
        ),
        ("mail", drop(f"{MAIL}/Environment/Variables/MAIL_CONFIGURATION_SET"), "SendAccountMailFunction: may send"),
        ("mail", put(f"{MAIL}/Policies", []), "SendAccountMailFunction: sends mail, and may send as nobody"),
        ("order", turn_around, "PingFunction: Policies, Environment, LoggingConfig, CodeUri should stand as CodeUri"),
        ("order", put("PingFunction/Properties/Description", "Pong"), "PingFunction: Description has no place"),
        (
            "directories",
            put("PingFunction/Properties/CodeUri", "functions/realtime"),
            "functions/realtime holds authorize_connection",
        ),
        ("directories", put("PingFunction/Properties/CodeUri", "functions/realtime/pong"), "pong holds nothing"),
        (
            "directories",
            put("PingFunction/Properties/CodeUri", "functions/realtime/join_room"),
            "is called JoinRoomFunction",
        ),
        ("directories", drop("PingFunction"), "functions/realtime/ping: no function of the template"),
        (
            "directories",
            put("PingLogGroup/Properties/LogGroupName", {"Fn::Sub": "${Prefix}/realtime/pong"}, LOGS),
            f"PingLogGroup of {LOGS} is not named after",
        ),
        (
            "directories",
            put("PingFunction/Properties/LoggingConfig/LogGroup", {"Fn::Sub": "${Logs.Outputs.Prefix}/realtime/pong"}),
            "PingFunction: logs to another group",
        ),
        ("directories", drop("PingFunction"), f"{LOGS}:PingLogGroup: no function logs to it"),
        ("resources of statements", grant("s3:GetObject", "*"), "PingFunctionRole: allows"),
        ("resources of statements", grant("s3:GetObject", "arn:aws:s3:::*"), "PingFunctionRole: allows"),
        ("resources of statements", grant("s3:*", "arn:aws:s3:::bucket/*"), "PingFunctionRole: allows"),
        (
            "needed permissions",
            put(
                "PingFunction/Properties/Policies", [{"LambdaInvokePolicy": {"FunctionName": {"Ref": "LoginFunction"}}}]
            ),
            "PingFunction: may use LoginFunction",
        ),
        ("needed permissions", drop("LoginFunction/Properties/Policies"), "LoginFunction: DATABASE_URL and the right"),
        (
            "needed permissions",
            drop("BridgeToNatsFunction/Properties/Policies"),
            "BridgeToNatsFunction: NATS_CREDENTIALS_SECRET and the right",
        ),
        (
            "managed policies",
            put("PingFunction/Properties/Policies", ["AdministratorAccess"]),
            "AdministratorAccess is not",
        ),
        ("data", put("Database/Properties/StorageEncrypted", False, DATA), "Database: StorageEncrypted is False"),
        ("data", drop("Database/Properties/DeletionProtection", DATA), "Database: DeletionProtection is None"),
        ("data", drop("Search/DeletionPolicy", DATA), "Search: DeletionPolicy Delete loses its data"),
        ("data", drop("JwtKeys/UpdateReplacePolicy"), "JwtKeys: UpdateReplacePolicy Delete loses its data"),
        (
            "data",
            put("Kafka/Properties/EncryptionInfo/EncryptionInTransit/ClientBroker", "TLS_PLAINTEXT", MESSAGING),
            "Kafka: EncryptionInfo.EncryptionInTransit.ClientBroker is TLS_PLAINTEXT",
        ),
        ("data", put("Table", {"Type": "AWS::DynamoDB::Table"}), "Table: no rule says how a AWS::DynamoDB::Table"),
        ("room", fill_up, "template.yaml: "),
        (
            "nested stacks",
            put(f"{VARIABLE}/SEARCH_URL", {"Fn::GetAtt": ["Data", "Outputs.SearchUrl"]}),
            "Data: has no output SearchUrl",
        ),
        ("nested stacks", drop("Data/Properties/Parameters/VpcId"), "Data: needs a VpcId"),
        ("nested stacks", put("Data/Properties/Parameters/Colour", "red"), "Data: has no parameter Colour"),
        ("nested stacks", drop("MigrateDatabaseFunction"), "Data: nobody takes its output DatabaseAdministrator"),
        ("topics", drop("UsersTopic", MESSAGING), "evp.users.v1: not declared"),
        ("topics", drop("FanOutDeadLetters", MESSAGING), "evp-fan-out.dlt: not declared"),
        ("topics", drop("FanOutFunction"), "evp-fan-out.dlt: nobody writes or reads it"),
        ("route responses", drop("JoinRouteResponse"), "WebSocketApiJoinRoute: has no route response"),
        ("headers", drop(f"{ANSWERS}/THROTTLED/{HEADERS}/X-Frame-Options"), "THROTTLED: X-Frame-Options is None"),
        (
            "headers",
            put(f"{ANSWERS}/DEFAULT_4XX/{HEADERS}/Strict-Transport-Security", "'max-age=0'"),
            "DEFAULT_4XX: Strict-Transport-Security is 'max-age=0'",
        ),
        ("headers", drop(f"{ANSWERS}/DEFAULT_5XX"), "DEFAULT_5XX: API Gateway words it itself"),
        ("origins", put(f"{CORS}/AllowOrigin", "'*'"), "RestApi: any origin may call"),
        ("origins", put(f"{CORS}/AllowOrigin", {"Fn::Sub": "'https://*'"}), "RestApi: any origin may call"),
        ("origins", put(f"{CORS}/AllowCredentials", True), "RestApi: pages may send cookies"),
        ("origins", drop(f"{CORS}/MaxAge"), "RestApi: preflights are not kept"),
        ("origins", put(f"{CORS}/AllowMethods", "'*'"), "RestApi: preflights name methods that a path does not have"),
        (
            "origins",
            put(f"{ANSWERS}/DEFAULT_4XX/{HEADERS}/Access-Control-Allow-Origin", "'*'"),
            "DEFAULT_4XX: any origin may read it",
        ),
    ],
)
def test_a_template_that_breaks_the_rule_is_reported(
    rule: str, change: Callable[[Sources], None], problem: str, templates: Templates
) -> None:
    problems = list(RULES[rule](templates.changed(change)))

    assert any(problem in found for found in problems), problems


def test_cfn_lint_reports_a_doctored_template_and_none_of_ours(templates: Templates, tmp_path: Path) -> None:
    doctored = tmp_path / "doctored.yaml"
    doctored.write_text((PROJECT / MESSAGING).read_text().replace("KafkaVersion:", "KafkaEdition:"))

    report = lint([*(PROJECT / path for path in templates.sources), doctored])

    assert report
    assert all(line.startswith(f"{doctored}:") for line in report), report
    assert any("KafkaEdition" in line for line in report)


def lint(templates: Iterable[Path]) -> list[str]:
    """What cfn-lint says, a line each, with the settings of .cfnlintrc.yaml."""
    program = Path(sys.executable).with_name("cfn-lint")
    command = [str(program), "--format=parseable", *(f"--template={path}" for path in templates)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False).stdout.splitlines()
