"""What callers of the workers see: an invocation's outcome, and the errors of the Invoke API."""

from __future__ import annotations

from dataclasses import dataclass

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html; the response limit is what Lambda's
# own error message states.
MAXIMUM_REQUEST_BYTES = 6_291_456
MAXIMUM_RESPONSE_BYTES = 6_291_556


class FunctionNotFoundError(LookupError):
    """The template declares no function of this name (Lambda: ResourceNotFoundException, 404)."""


class TooManyRequestsError(RuntimeError):
    """The function's reserved concurrency is exhausted (Lambda: TooManyRequestsException, 429)."""


class PayloadTooLargeError(ValueError):
    """The request is over 6 MB (Lambda: RequestTooLargeException, 413)."""


class WorkersStoppedError(RuntimeError):
    """The workers were stopped before the invocation reached a function."""


@dataclass(frozen=True)
class Invocation:
    """The outcome of one invocation, as Lambda's Invoke API reports it.

    `payload` is the function's response or, when `function_error` is "Unhandled", the JSON error document.
    `log_tail` holds the last 4 KB of what the invocation logged (`LogType=Tail`, before Base64).
    """

    request_id: str
    payload: bytes
    function_error: str | None
    log_tail: bytes
    executed_version: str = "$LATEST"

    @property
    def ok(self) -> bool:
        return self.function_error is None
