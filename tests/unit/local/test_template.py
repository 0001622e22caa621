"""What the reader makes of the fixture application, and of templates it must refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.application import Application, AsyncInvokeConfig, Authorizer, Cors, Queue, Schedule, Secret
from local.template import TemplateError, read_application

APPLICATION = Path(__file__).parents[2] / "fixtures" / "application"
TEMPLATE = APPLICATION / "template.yaml"
OVERRIDES = {"Data": {"Outputs.DatabaseUrl": "postgresql://127.0.0.1/app"}}

Write = Callable[[str], Path]


@pytest.fixture(scope="module")
def application() -> Application:
    return read_application(TEMPLATE, overrides=OVERRIDES, aws_endpoint="http://127.0.0.1:4566")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a SAM template with one function, `Work`, and whatever else the test gives."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "app.py").write_text("def handler(event, context): ...\n")

    def write_template(resources: str = "", *, function: str = "", parameters: str = "", conditions: str = "") -> Path:
        template = tmp_path / "template.yaml"
        template.write_text(
            f"""
Transform: AWS::Serverless-2016-10-31
{parameters}
{conditions}
Resources:
  Work:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: work
{function}
{resources}
"""
        )
        return template

    return write_template


class TestFunctions:
    def test_a_function_carries_the_globals_and_its_own_properties(self, application: Application) -> None:
        echo, misbehave = application.functions["EchoFunction"], application.functions["MisbehaveFunction"]

        assert (echo.handler, echo.timeout_seconds, echo.memory_mb) == ("app.handler", 5, 256)
        assert echo.code == APPLICATION / "functions" / "echo"
        assert echo.layers == (APPLICATION / "layers" / "greetings",)
        assert echo.arn == "arn:aws:lambda:us-east-1:000000000000:function:EchoFunction"
        assert misbehave.timeout_seconds == 1
        assert application.functions["ConsumeQueueFunction"].reserved_concurrency == 2

    def test_references_in_the_environment_have_their_local_values(self, application: Application) -> None:
        assert application.functions["EchoFunction"].environment == {
            "STAGE": "test",
            "RECORD_DIRECTORY": "",
            "DATABASE_URL": "postgresql://127.0.0.1/app",
            "UPLOADS": "uploads-test",
            "JOBS_QUEUE_URL": "http://127.0.0.1:4566/000000000000/Jobs",
            "JOBS_QUEUE_ARN": "arn:aws:sqs:us-east-1:000000000000:Jobs",
            "SIGNING_KEY_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:SigningKey",
            "PIPELINE_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:Pipeline",
            "TASK_FUNCTION": "TaskFunction",
            "GREETING": "Good morning. Dear, us-east-1 test",
            "WEBSOCKET_URL": "http://127.0.0.1:8080/ws",
        }

    def test_parameters_reach_conditions_names_and_nested_stacks(self) -> None:
        production = read_application(
            TEMPLATE,
            overrides={**OVERRIDES, "Stage": "production", "RecordDirectory": "/records"},
            gateway_endpoint="http://gateway:1",
        )

        environment = production.functions["EchoFunction"].environment
        assert environment["ONLY_IN_PRODUCTION"] == "yes"
        assert environment["UPLOADS"] == "uploads-production"
        assert environment["RECORD_DIRECTORY"] == "/records"
        assert environment["WEBSOCKET_URL"] == "http://gateway:1/ws"
        assert production.rest_api is not None
        assert production.rest_api.stage == "production"

    def test_the_invoke_configuration_is_the_functions_own(self, application: Application) -> None:
        failures = "arn:aws:sqs:us-east-1:000000000000:AsyncFailures"
        assert application.functions["RecordFunction"].async_invoke == AsyncInvokeConfig(1, 60, failures)
        assert application.functions["TaskFunction"].async_invoke == AsyncInvokeConfig()


class TestApis:
    def test_rest_routes_have_their_function_and_authorizer(self, application: Application) -> None:
        assert application.rest_api is not None
        routes = {(route.method, route.path): route for route in application.rest_api.routes}

        assert routes["GET", "/public"].authorizer is None
        assert routes["GET", "/private"].authorizer == "RequestAuthorizer"
        assert routes["GET", "/token"].authorizer == "TokenAuthorizer"
        assert routes["ANY", "/files/{proxy+}"].function == "EchoFunction"
        assert routes["ANY", "/misbehave/{how}"].function == "MisbehaveFunction"
        assert not any(method == "OPTIONS" for method, _ in routes)

    def test_authorizers_cors_and_gateway_responses_are_read(self, application: Application) -> None:
        api = application.rest_api
        assert api is not None

        assert api.authorizers == {
            "RequestAuthorizer": Authorizer(
                "RequestAuthorizer",
                "AuthorizeRequestFunction",
                "REQUEST",
                identity_headers=("Authorization",),
                ttl_seconds=60,
            ),
            "TokenAuthorizer": Authorizer(
                "TokenAuthorizer",
                "AuthorizeTokenFunction",
                "TOKEN",
                identity_headers=("X-Token",),
                ttl_seconds=0,
                validation_expression="token-.*",
            ),
        }
        assert api.cors == Cors(
            allow_origins=("https://example.org",),
            allow_methods=("GET", "POST", "OPTIONS"),
            allow_headers=("Authorization", "Content-Type"),
            max_age_seconds=600,
        )
        assert api.binary_media_types == ("image/png",)
        assert api.stage_variables == {"colour": "green"}
        not_found = api.gateway_responses["MISSING_AUTHENTICATION_TOKEN"]
        assert not_found.status_code == 404
        assert not_found.headers == {"X-Request-Id": "context.requestId", "Access-Control-Allow-Origin": "'*'"}
        assert api.gateway_responses["DEFAULT_4XX"].status_code is None

    def test_the_default_authorizer_guards_preflights_unless_switched_off(self, write: Write) -> None:
        api = """
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: test
      Cors: "'*'"
      Auth:
        DefaultAuthorizer: Guard
        Authorizers:
          Guard: { FunctionArn: !GetAtt Work.Arn }
"""
        event = """
      Events:
        Get: { Type: Api, Properties: { RestApiId: !Ref Api, Method: GET, Path: /a } }
"""
        application = read_application(write(api, function=event))

        assert application.rest_api is not None
        assert application.rest_api.cors is not None
        assert application.rest_api.cors.preflight_authorizer == "Guard"

    @pytest.mark.parametrize(
        ("model", "request_model", "error"),
        [
            (
                "{ type: object, properties: { a: { type: string, maxLength: 9 } } }",
                "ValidateBody: true",
                "POST /a: has a model with maxLength",
            ),
            ("{ type: object }", "ValidateParameters: true", "POST /a: validates parameters"),
        ],
    )
    def test_a_request_that_is_checked_in_another_way_than_here_is_refused(
        self, write: Write, model: str, request_model: str, error: str
    ) -> None:
        api = f"""
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: test
      Models:
        Thing: {model}
"""
        event = f"""
      Events:
        Post:
          Type: Api
          Properties:
            RestApiId: !Ref Api
            Method: POST
            Path: /a
            RequestModel: {{ Model: Thing, {request_model} }}
"""
        with pytest.raises(TemplateError, match=error):
            read_application(write(api, function=event))

    def test_the_websocket_api_has_routes_authorizer_and_two_way_routes(self, application: Application) -> None:
        api = application.websocket_api
        assert api is not None

        assert dict(api.routes) == dict.fromkeys(["$connect", "$disconnect", "$default", "join"], "SocketsFunction")
        assert api.two_way_routes == {"join"}
        assert api.route_selection_expression == "$request.body.action"
        assert api.authorizer is not None
        assert (api.authorizer.identity_query, api.authorizer.ttl_seconds) == (("ticket",), 0)


class TestTriggers:
    def test_the_msk_event_becomes_a_kafka_mapping(self, application: Application) -> None:
        (mapping,) = application.kafka_mappings

        assert (mapping.function, mapping.topics, mapping.consumer_group) == (
            "ConsumeTopicFunction",
            ("orders.v1",),
            "orders-consumer",
        )
        assert (mapping.batch_size, mapping.batching_window_seconds, mapping.maximum_retry_attempts) == (10, 1.0, 2)
        assert mapping.bisect_batch_on_error
        assert mapping.report_batch_item_failures
        assert mapping.on_failure_arn == "arn:aws:sqs:us-east-1:000000000000:AsyncFailures"

    def test_sqs_events_name_queues_of_the_template(self, application: Application) -> None:
        jobs, orders = application.queue_mappings

        assert (jobs.queue, jobs.batch_size, jobs.report_batch_item_failures, jobs.maximum_concurrency) == (
            "Jobs",
            5,
            True,
            2,
        )
        assert (orders.queue, orders.report_batch_item_failures) == ("Orders.fifo", False)

    def test_schedules_of_functions_and_state_machines_are_alike(self, application: Application) -> None:
        assert application.schedules == (
            Schedule("RecordFunctionEveryMinute", "rate(1 minute)", function="RecordFunction", input='{"sweep": true}'),
            Schedule("RecordFunctionNightly", "cron(0 3 * * ? *)", function="RecordFunction", enabled=False),
            Schedule("PipelineHourly", "rate(1 hour)", state_machine="Pipeline", input='{"source": "schedule"}'),
        )

    def test_a_plain_event_source_mapping_reads_like_the_event(self, write: Write) -> None:
        template = write(
            """
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties: { FunctionName: !Ref Work, EventSourceArn: !GetAtt Inbox.Arn, BatchSize: 3 }
  Inbox:
    Type: AWS::SQS::Queue
    Properties: { QueueName: !Sub "${AWS::StackName}-inbox" }
"""
        )

        (mapping,) = read_application(template).queue_mappings

        assert (mapping.function, mapping.queue, mapping.batch_size) == ("Work", "local-inbox", 3)


class TestStorage:
    def test_queues_have_attributes_and_dead_letter_queues(self, application: Application) -> None:
        assert application.queues["Jobs"] == Queue(
            "Jobs", attributes={"VisibilityTimeout": "30"}, dead_letter_queue="JobsDeadLetters", max_receive_count=2
        )
        assert application.queues["Orders.fifo"] == Queue(
            "Orders.fifo", fifo=True, attributes={"ContentBasedDeduplication": "true"}
        )

    def test_the_state_machine_is_substituted_and_parsed(self, application: Application) -> None:
        definition = application.state_machines["Pipeline"].definition
        task = definition["States"]["Task"]

        assert task["Parameters"]["FunctionName"] == application.functions["TaskFunction"].arn
        assert task["Retry"][0]["MaxAttempts"] == 3

    def test_resources_of_nested_stacks_are_part_of_the_application(self, application: Application) -> None:
        assert application.buckets == ("uploads-test",)
        assert application.topics == ("Notifications",)
        assert application.kafka_topics == ("orders.v1",)
        assert application.secrets == {
            "SigningKey": Secret("SigningKey", generate={"PasswordLength": 64, "ExcludePunctuation": True})
        }


def test_reading_twice_gives_the_same_application(application: Application) -> None:
    again = read_application(TEMPLATE, overrides=OVERRIDES, aws_endpoint="http://127.0.0.1:4566")
    assert again == application


def test_a_resource_whose_condition_is_false_is_not_there(write: Write) -> None:
    template = write(
        "  Extra: { Type: AWS::SQS::Queue, Condition: Wanted }",
        parameters="Parameters: { Mode: { Type: String, Default: plain } }",
        conditions="Conditions: { Wanted: !And [!Not [!Equals [!Ref Mode, plain]], !Equals [a, a]] }",
    )

    assert "Extra" not in read_application(template).queues
    assert "Extra" in read_application(template, overrides={"Mode": "full"}).queues


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("!Join ['-', [a, !Ref Mode]]", "a-plain"),
        ("!Select [1, !Split [',', 'x,y']]", "y"),
        ("!FindInMap [Sizes, small, memory]", "128"),
        ("!Sub '${!Literal} ${Mode} ${Inbox.QueueName}'", "${Literal} plain Inbox"),
        ("!Sub ['${A}/${Mode}', {A: !GetAtt Inbox.Arn}]", "arn:aws:sqs:us-east-1:000000000000:Inbox/plain"),
        ("!If [Wanted, yes it is, no]", "false"),
        ("true", "true"),
        ("5", "5"),
        ("!Ref Empty", ""),
        ("!Base64 abc", "YWJj"),
        ("!Select [0, !Ref Names]", "ada"),
    ],
)
def test_intrinsic_functions_give_what_cloudformation_gives(write: Write, value: str, expected: str) -> None:
    template = write(
        "  Inbox: { Type: AWS::SQS::Queue }",
        function=f"      Environment: {{ Variables: {{ VALUE: {value} }} }}",
        parameters="""
Parameters:
  Mode: { Type: String, Default: plain }
  Empty: { Type: String, Default: full }
  Names: { Type: CommaDelimitedList, Default: "ada, grace" }
Mappings: { Sizes: { small: { memory: 128 } } }
""",
        conditions="Conditions: { Wanted: !Equals [!Ref Mode, full] }",
    )

    application = read_application(template, overrides={"Empty": ""})

    assert application.functions["Work"].environment == {"VALUE": expected}


def environment(value: str) -> dict[str, str]:
    return {"function": f"      Environment: {{ Variables: {{ VALUE: {value} }} }}"}


def event(type_: str, properties: str = "") -> dict[str, str]:
    return {"function": f"      Events: {{ E: {{ Type: {type_}, Properties: {{ {properties} }} }} }}"}


def resource(type_: str, properties: str = "") -> dict[str, str]:
    return {"resources": f"  Thing: {{ Type: {type_}, Properties: {{ {properties} }} }}"}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown reference": (environment("!Ref Missing"), r"Work\.Environment.*VALUE.*there is no Missing"),
    "reference without a local value": (
        {**environment("!GetAtt Thing.Endpoint"), **resource("AWS::RDS::DBCluster")},
        r"Work\.Environment.*Endpoint of Thing \(AWS::RDS::DBCluster\) has no value.*override",
    ),
    "parameter without a value": (
        {**environment("!Ref Mode"), "parameters": "Parameters: { Mode: { Type: String } }"},
        "parameter Mode has no default",
    ),
    "import of another stack's value": (environment("!ImportValue other"), "Fn::ImportValue is not supported"),
    "dynamic reference": (environment("'{{resolve:ssm:/a}}'"), "dynamic reference"),
    "event that SAM does not know": (event("Telepathy"), "SAM refuses.*Telepathy|Telepathy"),
    "event without a counterpart": (
        event("Kinesis", "Stream: arn:aws:kinesis:us-east-1:1:stream/s, StartingPosition: LATEST"),
        r"EventSourceArn: must be a queue of the template or have Topics",
    ),
    "HTTP API": (event("HttpApi", "Path: /a, Method: GET"), "ProtocolType|has no counterpart|HTTP"),
    "event filter": (
        event("SQS", "Queue: !GetAtt Work.Arn, FilterCriteria: { Filters: [{ Pattern: '{}' }] }"),
        r"FilterCriteria: is not supported",
    ),
    "queue of another template": (
        event("SQS", "Queue: arn:aws:sqs:us-east-1:000000000000:elsewhere"),
        "must be a queue of the template",
    ),
    "one-time schedule": (event("ScheduleV2", "ScheduleExpression: at(2030-01-01T00:00:00)"), r"must be rate"),
    "schedule in another time zone": (
        event("ScheduleV2", "ScheduleExpression: rate(1 day), ScheduleExpressionTimezone: Europe/Berlin"),
        "must be UTC",
    ),
    "code that is not there": (
        {"function": "      Description: x\n      Layers: []", "code": "gone"},
        "does not exist",
    ),
    "unknown resource type": (resource("AWS::Pipes::Pipe"), r"Thing\.Type: AWS::Pipes::Pipe has no counterpart"),
    "custom resource": (resource("Custom::Thing", "ServiceToken: !GetAtt Work.Arn"), "has no counterpart"),
    "rule for the application's own events": (
        resource("AWS::Events::Rule", "EventPattern: { source: [app] }, Targets: [{ Id: a, Arn: !GetAtt Work.Arn }]"),
        "only schedules and events of AWS services",
    ),
    "bucket notification": (
        resource("AWS::S3::Bucket", "NotificationConfiguration: { LambdaConfigurations: [{ Event: a, Function: b }] }"),
        "notifications are not supported",
    ),
    "websocket route to nowhere": (
        resource(
            "AWS::Serverless::WebSocketApi",
            "RouteSelectionExpression: $request.body.action, Routes: { join: { FunctionArn: "
            "'arn:aws:lambda:us-east-1:000000000000:function:Nobody' } }",
        ),
        "Nobody.* is none of the template's functions",
    ),
    "websocket API with IAM": (
        resource(
            "AWS::Serverless::WebSocketApi",
            "RouteSelectionExpression: $request.body.action, Auth: { AuthType: AWS_IAM }, "
            "Routes: { $connect: { FunctionArn: !GetAtt Work.Arn } }",
        ),
        "must be NONE or CUSTOM",
    ),
}


@pytest.mark.parametrize(("template", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_run_is_refused_by_name(write: Write, template: dict[str, Any], message: str) -> None:
    code = template.pop("code", None) if "code" in template else None
    path = write(**template)
    if code:
        path.write_text(path.read_text().replace("CodeUri: work", f"CodeUri: {code}"))

    with pytest.raises(TemplateError, match=message):
        read_application(path)


def test_an_output_without_a_local_value_says_how_to_give_it() -> None:
    with pytest.raises(TemplateError) as refused:
        read_application(TEMPLATE)

    assert refused.value.place == "EchoFunction.Environment.Variables.DATABASE_URL"
    assert "Endpoint.Address of Database (AWS::RDS::DBInstance)" in str(refused.value)
    assert '{"Data": {"Outputs.DatabaseUrl": …}}' in str(refused.value)


def nested(name: str, **parameters: str) -> str:
    given = ", ".join(f"{key}: {value}" for key, value in parameters.items())
    properties = f"TemplateURL: {name.lower()}.yaml, Parameters: {{ {given} }}"
    return f"  {name}: {{ Type: AWS::CloudFormation::Stack, Properties: {{ {properties} }} }}\n"


STACK = """
Parameters: { Given: { Type: String, Default: nothing } }
Resources: { Queue: { Type: AWS::SQS::Queue, Properties: { QueueName: !Sub "${Given}-queue" } } }
Outputs: { Name: { Value: !GetAtt Queue.QueueName } }
"""


def test_nested_stacks_are_given_each_others_outputs(write: Write, tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / f"{name}.yaml").write_text(STACK)
    template = write(
        nested("Third", Given="!GetAtt Second.Outputs.Name")
        + nested("Second", Given="!GetAtt First.Outputs.Name")
        + nested("First", Given="a"),
        **environment("!GetAtt Third.Outputs.Name"),
    )

    application = read_application(template)

    assert application.functions["Work"].environment == {"VALUE": "a-queue-queue-queue"}
    assert sorted(application.queues) == ["a-queue", "a-queue-queue", "a-queue-queue-queue"]


def test_nested_stacks_in_a_circle_are_refused(write: Write, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(STACK)
    template = write(
        nested("First", Given="!GetAtt Second.Outputs.Name") + nested("Second", Given="!GetAtt First.Outputs.Name")
    )

    with pytest.raises(TemplateError, match="depend on this stack's own outputs"):
        read_application(template)


def test_a_parameter_that_the_nested_stack_does_not_have_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(STACK)

    with pytest.raises(TemplateError, match=r"First: first\.yaml has no parameter or resource Other"):
        read_application(write(nested("First", Other="x")))


@pytest.mark.parametrize("text", ["", "just text", "Resources: [", "a: !Unknown {"])
def test_a_file_that_is_no_template_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "template.yaml").write_text(text)

    with pytest.raises(TemplateError, match="is not a template"):
        read_application(tmp_path / "template.yaml")


def test_a_missing_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"cannot read .*No such file"):
        read_application(tmp_path / "template.yaml")


def test_an_override_of_nothing_is_refused(write: Write) -> None:
    with pytest.raises(TemplateError, match="no parameter or resource Typo"):
        read_application(write(), overrides={"Typo": "x"})


def test_a_prebuilt_layer_contributes_its_python_folder(write: Write, tmp_path: Path) -> None:
    (tmp_path / "layer" / "python").mkdir(parents=True)
    template = write(
        "  Extra: { Type: AWS::Serverless::LayerVersion, Properties: { ContentUri: layer } }",
        function="      Layers: [!Ref Extra]",
    )

    assert read_application(template).functions["Work"].layers == (tmp_path / "layer" / "python",)


def test_a_custom_resource_and_its_inline_function_stay_with_cloudformation(write: Write) -> None:
    template = write(
        """
  Brokers: { Type: AWS::CloudFormation::CustomResource, Properties: { ServiceToken: !GetAtt Lookup.Arn } }
  Lookup:
    Type: AWS::Lambda::Function
    Properties: { Runtime: python3.13, Handler: index.handler, Role: none, Code: { ZipFile: "def handler(): ..." } }
"""
    )

    assert read_application(template).functions.keys() == {"Work"}
