"""API Gateway on one machine: an ASGI application in front of the functions.

`Gateway` turns HTTP into REST proxy events (`rest`), sockets into WebSocket events (`websocket`), runs
Lambda authorizers (`authorizers`), answers `@connections` (`connections`) and words errors as API Gateway
or the template does (`errors`), within API Gateway's `limits`. `serve` runs it with uvicorn, and
`local.gateway.pages` has what else can be mounted.
"""

from local.gateway.connections import Connection, Connections, SlowConsumerError
from local.gateway.gateway import AsgiApp, Gateway
from local.gateway.integration import FunctionInvoker
from local.gateway.limits import Limits
from local.gateway.server import PortInUseError, check_port, serve, serve_app

__all__ = [
    "AsgiApp",
    "Connection",
    "Connections",
    "FunctionInvoker",
    "Gateway",
    "Limits",
    "PortInUseError",
    "SlowConsumerError",
    "check_port",
    "serve",
    "serve_app",
]
