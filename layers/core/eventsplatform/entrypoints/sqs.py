"""SQS batches with partial failures, through Powertools' batch processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from eventsplatform.entrypoints.failures import failing_without_secrets
from eventsplatform.observability import begin_invocation, handling_message


def sqs_consumer(consume: Callable[[dict[str, Any]], None]) -> Any:
    """Make a Lambda handler that hands `consume` one message's JSON body at a time.

    A message whose consumer raises becomes visible again and, after the queue's `maxReceiveCount`,
    moves to its dead-letter queue; the others are deleted.
    """

    def process(record: SQSRecord) -> None:
        with handling_message("", message_id=record.message_id):
            consume(orjson.loads(record.body))

    @failing_without_secrets
    def handler(event: dict[str, Any], context: Any) -> Any:
        begin_invocation(traceparent=None, function_request_id=context.aws_request_id)
        processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
        return process_partial_response(event=event, record_handler=process, processor=processor, context=context)

    return handler
