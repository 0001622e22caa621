"""Reads template.yaml into an `Application`.

The template is expanded with SAM's own translator (aws-sam-translator, as `sam deploy` does) and what is
read are CloudFormation's resources: a function's `Events`, `EventInvokeConfig` or `Auth` and the plain
resources they stand for come out the same, and what SAM would refuse to deploy is refused here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from local.application import Application
from local.template.apis import read_rest_api, read_websocket_api
from local.template.functions import read_functions
from local.template.intrinsics import TemplateError
from local.template.stack import Stack
from local.template.storage import (
    read_buckets,
    read_kafka_topics,
    read_queues,
    read_secrets,
    read_state_machines,
    read_topics,
)
from local.template.triggers import read_mappings, read_schedules

__all__ = ["TemplateError", "read_application"]

_LOG = logging.getLogger(__name__)

_UNDERSTOOD = frozenset(
    {
        "AWS::ApiGateway::Deployment",
        "AWS::ApiGateway::GatewayResponse",
        "AWS::ApiGateway::RestApi",
        "AWS::ApiGateway::Stage",
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::Authorizer",
        "AWS::ApiGatewayV2::Integration",
        "AWS::ApiGatewayV2::Route",
        "AWS::ApiGatewayV2::RouteResponse",
        "AWS::ApiGatewayV2::Stage",
        "AWS::CloudFormation::Stack",
        "AWS::Events::Rule",
        "AWS::Lambda::Alias",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Function",
        "AWS::Lambda::LayerVersion",
        "AWS::Lambda::Permission",
        "AWS::Lambda::Version",
        "AWS::S3::Bucket",
        "AWS::SNS::Subscription",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
        "AWS::Scheduler::Schedule",
        "AWS::SecretsManager::Secret",
        "AWS::StepFunctions::StateMachine",
    }
)

# Deployed, but nothing runs of it here: permissions, network, observation, and the servers whose
# embedded counterparts `local.engines` starts.
_INERT = (
    "AWS::ApiGateway::Account",
    "AWS::ApiGateway::BasePathMapping",
    "AWS::ApiGateway::DomainName",
    "AWS::ApiGatewayV2::ApiMapping",
    "AWS::ApiGatewayV2::DomainName",
    "AWS::ApplicationAutoScaling::",
    "AWS::Backup::",
    "AWS::Budgets::",
    "AWS::CertificateManager::",
    "AWS::CloudFormation::CustomResource",
    "AWS::CloudFront::",
    "AWS::CloudTrail::",
    "AWS::CloudWatch::",
    "AWS::CodeDeploy::",
    "AWS::EC2::",
    "AWS::EFS::",
    "AWS::ElastiCache::",
    "AWS::Events::EventBus",
    "AWS::IAM::",
    "AWS::KMS::",
    "AWS::Lambda::CodeSigningConfig",
    "AWS::Logs::",
    "AWS::MSK::",
    "AWS::OpenSearchServerless::",
    "AWS::OpenSearchService::",
    "AWS::RDS::",
    "AWS::ResourceGroups::",
    "AWS::Route53::",
    "AWS::S3::BucketPolicy",
    "AWS::SES::",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::SSM::Parameter",
    "AWS::SageMaker::",
    "AWS::Scheduler::ScheduleGroup",
    "AWS::SecretsManager::ResourcePolicy",
    "AWS::SecretsManager::RotationSchedule",
    "AWS::SecretsManager::SecretTargetAttachment",
    "AWS::ServiceDiscovery::",
    "AWS::Synthetics::",
    "AWS::WAFv2::",
    "AWS::XRay::",
)


def read_application(
    template: Path,
    *,
    overrides: Mapping[str, object] | None = None,
    aws_endpoint: str = "http://127.0.0.1:4566",
    gateway_endpoint: str = "http://127.0.0.1:8080",
) -> Application:
    """Everything the template and the stacks nested in it declare.

    `overrides` gives parameters their values, and resources the attributes that nothing here can know:
    `{"Stage": "dev", "Data": {"Outputs.DatabaseUrl": "postgresql://…"}}`. What `Ref` and `Fn::GetAtt` of
    functions, queues, topics, buckets, secrets, state machines, layers and APIs give is worked out, also
    through the outputs of nested stacks: queues live at `aws_endpoint`, and an `execute-api` address in a
    function's environment becomes `gateway_endpoint` (`…/ws` for the WebSocket API).

    Function, mapping, schedule and API names are logical ids. Queues, state machines, secrets, buckets and
    topics go by the name AWS would know them by, which is the logical id unless the template names them.

    Reading changes nothing and may be repeated when the template changes. The first call imports SAM's
    translator, for more than a second: run it in a thread where that matters.

    Raises TemplateError, naming resource and property, for whatever would be deployed and active but has
    no counterpart here, and for a reference without a value in anything that runs.
    """
    stack = Stack(template, overrides=overrides or {}, aws_endpoint=aws_endpoint)
    _check_types(stack)
    functions = read_functions(stack, gateway_endpoint=gateway_endpoint)
    queues = read_queues(stack)
    state_machines = read_state_machines(stack)
    kafka_mappings, queue_mappings = read_mappings(stack, functions, queues)
    return Application(
        functions=functions,
        rest_api=read_rest_api(stack, functions),
        websocket_api=read_websocket_api(stack, functions),
        kafka_mappings=kafka_mappings,
        queue_mappings=queue_mappings,
        schedules=read_schedules(stack, functions, state_machines),
        queues=queues,
        state_machines=state_machines,
        secrets=read_secrets(stack),
        buckets=read_buckets(stack),
        topics=read_topics(stack),
        kafka_topics=read_kafka_topics(stack),
    )


def _check_types(stack: Stack) -> None:
    for resource in stack.all_resources():
        if resource.type in _UNDERSTOOD:
            continue
        if not resource.type.startswith(_INERT):
            raise resource.error("Type", f"{resource.type} has no counterpart on one machine")
        _LOG.debug("%s: a %s does nothing on one machine", resource.logical_id, resource.type)
