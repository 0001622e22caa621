"""Functions that run on a schedule or are poked asynchronously; they raise, and Lambda retries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eventsplatform.entrypoints.failures import failing_without_secrets
from eventsplatform.observability import begin_invocation, logger


@dataclass(frozen=True)
class Run:
    """One run: its input and the milliseconds left before Lambda ends it."""

    input: dict[str, Any]
    remaining_ms: Callable[[], int]


def scheduled(run: Callable[[Run], dict[str, Any] | None]) -> Any:
    """Make a Lambda handler of `run(Run) -> result`; the result is logged and returned."""

    @failing_without_secrets
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        begin_invocation(traceparent=event.get("traceparent"), function_request_id=context.aws_request_id)
        result = run(Run(input=event, remaining_ms=context.get_remaining_time_in_millis)) or {}
        logger.info("run finished", extra={"result": result})
        return result

    return handler
