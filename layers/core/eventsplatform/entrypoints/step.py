"""Functions that are invoked directly: Step Functions tasks and calls from other services.

Input is validated against a model. Errors are raised: their type's name is what a state machine's
`Retry`/`Catch` match on and what a calling service sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from eventsplatform.entrypoints.failures import failing_without_secrets
from eventsplatform.observability import begin_invocation

Input = TypeVar("Input", bound=BaseModel)


def direct(input_type: type[Input]) -> Callable[[Callable[[Input], BaseModel | dict[str, Any]]], Any]:
    """Make a Lambda handler of `(input) -> result`, the result being a model or a JSON object."""

    def decorate(run: Callable[[Input], BaseModel | dict[str, Any]]) -> Any:
        @failing_without_secrets
        def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
            begin_invocation(traceparent=event.get("traceparent"), function_request_id=context.aws_request_id)
            content = {name: value for name, value in event.items() if name != "traceparent"}
            result = run(input_type.model_validate(content))
            return result.model_dump(mode="json") if isinstance(result, BaseModel) else result

        return handler

    return decorate
