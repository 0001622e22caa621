"""Lambda execution environments on one machine.

`Workers.invoke` runs a function in a process of its own through the real Lambda runtime client (`awslambdaric`).
Processes are forked from a fork server that has the third-party libraries loaded (`fork_server`), are driven over
the Lambda Runtime API (`runtime_api`, `environment`) and kept per function (`pool`).
"""

from local.workers.fork_client import PidRegistry
from local.workers.invocation import (
    MAXIMUM_REQUEST_BYTES,
    MAXIMUM_RESPONSE_BYTES,
    FunctionNotFoundError,
    Invocation,
    PayloadTooLargeError,
    TooManyRequestsError,
    WorkersStoppedError,
)
from local.workers.logs import LogSink
from local.workers.pool import PoolObserver
from local.workers.workers import Workers

__all__ = [
    "MAXIMUM_REQUEST_BYTES",
    "MAXIMUM_RESPONSE_BYTES",
    "FunctionNotFoundError",
    "Invocation",
    "LogSink",
    "PayloadTooLargeError",
    "PidRegistry",
    "PoolObserver",
    "TooManyRequestsError",
    "Workers",
    "WorkersStoppedError",
]
