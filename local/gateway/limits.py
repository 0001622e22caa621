"""API Gateway's quotas.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
"""

from __future__ import annotations

from dataclasses import dataclass

MAXIMUM_PAYLOAD_BYTES = 10 * 1024 * 1024
MAXIMUM_MESSAGE_BYTES = 128 * 1024
MAXIMUM_FRAME_BYTES = 32 * 1024


@dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds. The defaults are API Gateway's."""

    integration_timeout: float = 29.0
    idle_timeout: float = 10 * 60.0
    connection_duration: float = 2 * 60 * 60.0
