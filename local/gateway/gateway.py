"""The ASGI application that stands for API Gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from local.application import Application
from local.gateway.authorizers import Authorizers
from local.gateway.connections import ConnectionApi, Connections
from local.gateway.errors import MISSING_AUTHENTICATION_TOKEN, GatewayError, GatewayResponses
from local.gateway.integration import FunctionInvoker, Lambda
from local.gateway.limits import Limits
from local.gateway.request import Request, Scope
from local.gateway.rest import Receive, RestGateway, Send
from local.gateway.websocket import WebSocketGateway

AsgiApp = Callable[[dict[str, Any], Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]], Awaitable[None]]

WEBSOCKET_PATH = "/ws"
_CONNECTIONS_PREFIXES = ("/@connections/", f"{WEBSOCKET_PATH}/@connections/")


class Gateway:
    """REST API at `/`, WebSocket API at `/ws`, its `@connections` at both, and what else is mounted.

    `extras` maps paths to ASGI applications that come before the REST API: `/metrics` is that path alone,
    `/app/` everything below it (and `/app` redirects there).
    """

    def __init__(
        self,
        application: Application,
        workers: FunctionInvoker,
        *,
        connections: Connections | None = None,
        extras: Mapping[str, AsgiApp] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.connections = connections if connections is not None else Connections()
        self._limits = limits or Limits()
        self._lambda = Lambda(workers, timeout_seconds=self._limits.integration_timeout)
        self._authorizers = Authorizers(self._lambda)
        self._connection_api = ConnectionApi(self.connections)
        extras = extras or {}
        self._pages = {path: app for path, app in extras.items() if not path.endswith("/")}
        self._trees = {path: app for path, app in extras.items() if path.endswith("/")}
        self._rest: AsgiApp
        self._websocket: AsgiApp
        self.update(application)

    def update(self, application: Application) -> None:
        """Take over a changed template; open connections stay, with the routes they were opened for."""
        rest, websocket = application.rest_api, application.websocket_api
        self._authorizers.forget()
        self._rest = RestGateway(rest, self._lambda, self._authorizers) if rest else _no_api
        self._websocket = (
            WebSocketGateway(websocket, self._lambda, self._authorizers, self.connections, self._limits)
            if websocket
            else _no_api
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            is_api = scope["path"].rstrip("/") == WEBSOCKET_PATH
            await (self._websocket if is_api else _no_api)(scope, receive, send)

    async def close_connections(self, *, within_seconds: float = 5.0) -> None:
        """Close every WebSocket with 1001 and wait, but not for ever, until each has had its `$disconnect`."""
        endings = []
        for connection in self.connections:
            connection.close(1001, "Going away")
            endings.append(asyncio.ensure_future(connection.finished.wait()))
        if endings:
            _, unfinished = await asyncio.wait(endings, timeout=within_seconds)
            for ending in unfinished:
                ending.cancel()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path in self._pages:
            await self._pages[path](scope, receive, send)
            return
        for prefix, app in self._trees.items():
            if path.startswith(prefix):
                await app({**scope, "root_path": scope.get("root_path", "") + prefix[:-1]}, receive, send)
                return
            if path == prefix[:-1]:
                await _redirect(send, prefix.encode() + (b"?" + query if (query := scope["query_string"]) else b""))
                return
        if path.startswith(_CONNECTIONS_PREFIXES):
            await self._connection_api(scope, receive, send)
        elif path.rstrip("/") == WEBSOCKET_PATH:
            await _upgrade_required(send)
        else:
            await self._rest(scope, receive, send)


async def _no_api(scope: Scope, receive: Receive, send: Send) -> None:
    """What answers where the template has no API."""
    request = Request(scope)
    context = {"requestId": request.request_id}
    rendered = GatewayResponses({}, {}).render(GatewayError(MISSING_AUTHENTICATION_TOKEN), context, request.headers)
    prefix = "websocket." if scope["type"] == "websocket" else ""
    await receive()
    await send({"type": f"{prefix}http.response.start", "status": rendered.status, "headers": rendered.headers})
    await send({"type": f"{prefix}http.response.body", "body": rendered.body})


async def _redirect(send: Send, location: bytes) -> None:
    headers = [(b"location", location), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _upgrade_required(send: Send) -> None:
    """RFC 9110 section 15.5.22, as API Gateway answers plain HTTP on a WebSocket API."""
    body = b'{"message":"Upgrade Required"}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"upgrade", b"websocket"),
    ]
    await send({"type": "http.response.start", "status": 426, "headers": headers})
    await send({"type": "http.response.body", "body": body})
