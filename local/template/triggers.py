"""Event source mappings and schedules."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from local.application import Function, KafkaMapping, Queue, QueueMapping, Schedule, StateMachine
from local.template.functions import function_name, queue_arn
from local.template.intrinsics import TemplateError
from local.template.stack import Resource, Stack

_LOG = logging.getLogger(__name__)
_EXPRESSION = re.compile(r"(rate|cron)\(.+\)")


def read_mappings(
    stack: Stack, functions: Mapping[str, Function], queues: Mapping[str, Queue]
) -> tuple[tuple[KafkaMapping, ...], tuple[QueueMapping, ...]]:
    """Every event source mapping; it is one of Kafka when it names topics."""
    kafka, sqs = [], []
    for resource in stack.all_resources():
        if resource.type != "AWS::Lambda::EventSourceMapping":
            continue
        resource.refuse("FilterCriteria", "TumblingWindowInSeconds", because="is not supported on one machine")
        if resource.get("Topics"):
            kafka.append(_read_kafka_mapping(resource, functions))
        else:
            sqs.append(_read_queue_mapping(resource, functions, queues))
    return tuple(kafka), tuple(sqs)


def _read_kafka_mapping(resource: Resource, functions: Mapping[str, Function]) -> KafkaMapping:
    resource.refuse("SchemaRegistryConfig", because="is not supported on one machine")
    if (resource.get("MaximumRecordAgeInSeconds", -1)) != -1:
        raise resource.error("MaximumRecordAgeInSeconds", "is not supported; use MaximumRetryAttempts")
    position = resource.get("StartingPosition", "TRIM_HORIZON")
    if position not in ("TRIM_HORIZON", "LATEST"):
        raise resource.error("StartingPosition", f"must be TRIM_HORIZON or LATEST, got {position}")
    source = resource.get("AmazonManagedKafkaEventSourceConfig") or resource.get("SelfManagedKafkaEventSourceConfig")
    return KafkaMapping(
        name=resource.logical_id,
        function=function_name(resource, "FunctionName", functions),
        topics=tuple(resource.get("Topics")),
        consumer_group=(source or {}).get("ConsumerGroupId", resource.logical_id),
        batch_size=int(resource.get("BatchSize", 100)),
        batching_window_seconds=float(resource.get("MaximumBatchingWindowInSeconds", 0.5)),
        starting_position=position,
        maximum_retry_attempts=int(resource.get("MaximumRetryAttempts", -1)),
        bisect_batch_on_error=resource.get("BisectBatchOnFunctionError", False),
        report_batch_item_failures=_reports_item_failures(resource),
        on_failure_arn=queue_arn(resource, "DestinationConfig", resource.get("DestinationConfig")),
        enabled=resource.get("Enabled", True),
    )


def _read_queue_mapping(
    resource: Resource, functions: Mapping[str, Function], queues: Mapping[str, Queue]
) -> QueueMapping:
    source = str(resource.get("EventSourceArn"))
    queue = source.rpartition(":")[2]
    if not source.startswith("arn:aws:sqs:") or queue not in queues:
        raise resource.error("EventSourceArn", f"must be a queue of the template or have Topics, got {source}")
    return QueueMapping(
        name=resource.logical_id,
        function=function_name(resource, "FunctionName", functions),
        queue=queue,
        batch_size=int(resource.get("BatchSize", 10)),
        batching_window_seconds=float(resource.get("MaximumBatchingWindowInSeconds", 0)),
        report_batch_item_failures=_reports_item_failures(resource),
        maximum_concurrency=resource.get("ScalingConfig", {}).get("MaximumConcurrency"),
        enabled=resource.get("Enabled", True),
    )


def _reports_item_failures(resource: Resource) -> bool:
    return "ReportBatchItemFailures" in resource.get("FunctionResponseTypes", [])


def read_schedules(
    stack: Stack, functions: Mapping[str, Function], state_machines: Mapping[str, StateMachine]
) -> tuple[Schedule, ...]:
    """EventBridge Scheduler's schedules and EventBridge's schedule rules.

    A rule for events of AWS's own services is passed over with a warning: those services are not here.
    """
    schedules: list[Schedule] = []
    for resource in stack.all_resources():
        if resource.type == "AWS::Scheduler::Schedule":
            if resource.get("ScheduleExpressionTimezone", "UTC") != "UTC":
                raise resource.error("ScheduleExpressionTimezone", "must be UTC on one machine")
            resource.refuse("StartDate", "EndDate", because="is not supported on one machine")
            schedules.append(_read_schedule(resource, "Target", resource.get("Target"), functions, state_machines))
        elif resource.type == "AWS::Events::Rule" and resource.get("ScheduleExpression"):
            schedules += [
                _read_schedule(resource, "Targets", target, functions, state_machines)
                for target in resource.get("Targets", [])
            ]
        elif resource.type == "AWS::Events::Rule":
            _check_event_rule(resource)
    return tuple(schedules)


def _read_schedule(
    resource: Resource,
    property_: str,
    target: Mapping[str, str],
    functions: Mapping[str, Function],
    state_machines: Mapping[str, StateMachine],
) -> Schedule:
    expression = str(resource.get("ScheduleExpression"))
    if not _EXPRESSION.fullmatch(expression):
        raise resource.error("ScheduleExpression", f"must be rate(…) or cron(…), got {expression}")
    if "InputPath" in target or "InputTransformer" in target:
        raise resource.error(property_, "InputPath and InputTransformer are not supported; Input is")
    function = state_machine = None
    if ":stateMachine:" in target["Arn"]:
        state_machine = target["Arn"].rpartition(":")[2]
        if state_machine not in state_machines:
            raise resource.error(property_, f"{target['Arn']} is none of the template's state machines")
    else:
        function = function_name(resource, property_, functions, target["Arn"])
    return Schedule(
        name=resource.logical_id,
        expression=expression,
        function=function,
        state_machine=state_machine,
        input=target.get("Input"),
        enabled=resource.get("State", "ENABLED") == "ENABLED",
    )


def _check_event_rule(resource: Resource) -> None:
    try:
        sources = resource.get("EventPattern", {}).get("source", [])
    except TemplateError:
        sources = []
    if not sources or not all(str(source).startswith("aws.") for source in sources):
        raise resource.error("EventPattern", "only schedules and events of AWS services are understood")
    _LOG.warning("%s: no %s events on one machine", resource.logical_id, ", ".join(sources))
