"""Functions on a schedule, invoked directly, and behind a queue."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.entrypoints.sqs import sqs_consumer
from eventsplatform.entrypoints.step import direct
from eventsplatform.errors import NotFoundError
from eventsplatform.tracing import current_traceparent
from tests.support.lambda_events import Context

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Question(BaseModel):
    number: int


def test_a_run_gets_its_input_and_the_time_left_and_its_result_is_logged(
    logged: Callable[[], list[dict[str, Any]]],
) -> None:
    runs: list[Run] = []

    @scheduled
    def handler(run: Run) -> dict[str, Any]:
        runs.append(run)
        return {"relayed": 3}

    assert handler({"shards": [1]}, Context(remaining_ms=1_234)) == {"relayed": 3}

    assert runs[0].input == {"shards": [1]}
    assert runs[0].remaining_ms() == 1_234
    assert logged()[-1]["result"] == {"relayed": 3}


def test_a_run_that_fails_is_left_to_lambda_to_try_again() -> None:
    @scheduled
    def handler(_run: Run) -> None:
        raise RuntimeError("down")

    with pytest.raises(RuntimeError):
        handler({}, Context())


def test_a_question_is_checked_and_answered_in_the_trace_it_came_with() -> None:
    @direct(Question)
    def handler(question: Question) -> dict[str, Any]:
        return {"double": 2 * question.number, "trace": current_traceparent()}

    answer = handler({"number": 21, "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, Context())

    assert answer["double"] == 42
    assert TRACE in answer["trace"]
    with pytest.raises(Exception, match="input_value=<redacted>") as refused:
        handler({"number": "x"}, Context())
    assert type(refused.value).__name__ == ValidationError.__name__


def test_an_answer_may_be_a_model_and_an_error_keeps_its_type() -> None:
    @direct(Question)
    def handler(question: Question) -> Question:
        if question.number == 0:
            raise NotFoundError("Nothing is 0.")
        return question

    assert handler({"number": 1}, Context()) == {"number": 1}
    with pytest.raises(NotFoundError):
        handler({"number": 0}, Context())


def test_a_queues_failed_messages_are_reported_and_the_others_are_done() -> None:
    consumed: list[Any] = []

    def consume(body: dict[str, Any]) -> None:
        if body["number"] == 2:
            raise RuntimeError("down")
        consumed.append(body["number"])

    bodies = ['{"number": 1}', '{"number": 2}', "not json", '{"number": 4}']
    event = {"Records": [_sqs_record(number, body) for number, body in enumerate(bodies)]}

    answer = sqs_consumer(consume)(event, Context())

    assert consumed == [1, 4]
    assert json.loads(json.dumps(answer)) == {
        "batchItemFailures": [{"itemIdentifier": "message-1"}, {"itemIdentifier": "message-2"}]
    }


def _sqs_record(number: int, body: str) -> dict[str, Any]:
    return {
        "messageId": f"message-{number}",
        "receiptHandle": "handle",
        "body": body,
        "attributes": {},
        "messageAttributes": {},
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:queue",
        "awsRegion": "us-east-1",
    }
