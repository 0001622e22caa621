"""The error documents that Lambda itself writes, where the function's runtime could not."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import Literal

from local.workers.invocation import MAXIMUM_RESPONSE_BYTES


@dataclass(frozen=True)
class Fault:
    """Why an invocation failed: its error type, the document its caller gets, and how the REPORT line puts it."""

    error_type: str
    document: bytes
    status: Literal["error", "timeout"] | None = None


def timed_out(request_id: str, seconds: float) -> Fault:
    message = f"RequestId: {request_id} Error: Task timed out after {seconds:.2f} seconds"
    return Fault("Sandbox.Timedout", _document("Sandbox.Timedout", message), status="timeout")


def exited(request_id: str, exit_status: int) -> Fault:
    """The process ended during the invocation; a negative status is the signal that ended it."""
    message = f"RequestId: {request_id} Error: {_describe_exit(exit_status)}"
    return Fault("Runtime.ExitError", _document("Runtime.ExitError", message), status="error")


def response_too_large() -> Fault:
    message = f"Response payload size exceeded maximum allowed payload size ({MAXIMUM_RESPONSE_BYTES} bytes)."
    return Fault("Function.ResponseSizeTooLarge", _document("Function.ResponseSizeTooLarge", message))


def reported(document: bytes) -> Fault:
    """The runtime posted this error document itself."""
    try:
        error_type = str(json.loads(document)["errorType"])
    except (ValueError, LookupError, TypeError):
        error_type = "Runtime.Unknown"
    return Fault(error_type, document)


def _describe_exit(exit_status: int) -> str:
    if exit_status == 0:
        return "Runtime exited without providing a reason"
    if exit_status > 0:
        return f"Runtime exited with error: exit status {exit_status}"
    # Lambda prints Go's names of signals, which are those of strsignal in lower case ("killed"; macOS: "Killed: 9").
    name = (signal.strsignal(-exit_status) or f"signal {-exit_status}").partition(":")[0].lower()
    return f"Runtime exited with error: signal: {name}"


def _document(error_type: str, message: str) -> bytes:
    return json.dumps({"errorType": error_type, "errorMessage": message}, separators=(",", ":")).encode()
