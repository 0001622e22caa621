"""The WebSocket API: handshakes and frames become `$connect`, route and `$disconnect` events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import orjson

from local.application import ACCOUNT_ID, REGION, WebSocketApi
from local.gateway.authorizers import Authorizers
from local.gateway.connections import Connection, Connections, SlowConsumerError
from local.gateway.errors import GatewayError, GatewayResponses
from local.gateway.integration import Lambda, ProxyResponse
from local.gateway.limits import Limits
from local.gateway.request import Request, Scope, clf_time, extended_request_id
from local.gateway.rest import Receive, Send

_LOG = logging.getLogger(__name__)

# API Gateway promises no order among the messages of a connection, and neither is there one here: each runs
# as soon as a place is free. With all places taken the client is not read from.
_CONCURRENT_MESSAGES = 16

# How long a client may take to answer a close frame.
_CLOSE_SECONDS = 10.0

_GOING_AWAY = (1001, "Going away")
_DEFAULT_REASONS = {1005: "Client-side close frame status not set", 1006: "Connection Closed Abnormally"}
_SELECTION_PREFIX = "$request.body."


class WebSocketGateway:
    """Serves one WebSocket API. The server limits frames to 32 KB and messages to 128 KB (close code 1009)."""

    def __init__(
        self,
        api: WebSocketApi,
        lambda_: Lambda,
        authorizers: Authorizers,
        connections: Connections,
        limits: Limits,
    ) -> None:
        self.api = api
        self.lambda_ = lambda_
        self.authorizers = authorizers
        self.connections = connections
        self.limits = limits
        self._selection = _parse_selection(api.route_selection_expression)
        self._responses = GatewayResponses({}, {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        session = _Session(self, Request(scope))
        try:
            subprotocol = await session.connect()
        except GatewayError as error:
            await self._refuse(send, session, error)
            return
        if isinstance(subprotocol, int):
            await _respond(send, subprotocol, [], b"")
            return
        await session.serve(receive, send, subprotocol)

    def select_route(self, message: str | bytes) -> str | None:
        """The route key for a message, `$default` for what selects none; None if there is no such route."""
        key = _select(self._selection, message)
        if key in self.api.routes and not key.startswith("$"):
            return key
        return "$default" if "$default" in self.api.routes else None

    async def _refuse(self, send: Send, session: _Session, error: GatewayError) -> None:
        if error.type.status >= 500:
            _LOG.warning("WebSocket connection: %d: %s", error.type.status, error)
        rendered = self._responses.render(error, session.context("$connect", "CONNECT"), session.request.headers)
        await _respond(send, rendered.status, rendered.headers, rendered.body)


class _Session:
    """One connection from its handshake to its `$disconnect`."""

    def __init__(self, gateway: WebSocketGateway, request: Request) -> None:
        self.request = request
        self._gateway = gateway
        self._connection = Connection(
            id=extended_request_id(),
            source_ip=request.source_ip,
            user_agent=request.user_agent,
            connected_at_ms=request.time_ms,
        )
        self._authorizer: dict[str, Any] | None = None
        self._messages: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_CONCURRENT_MESSAGES)

    async def connect(self) -> str | int | None:
        """Authorize and run `$connect`: the subprotocol to accept with, or the status to refuse with."""
        api, request = self._gateway.api, self.request
        if api.authorizer is not None:
            event = {**self._handshake(), "requestContext": self.context("$connect", "CONNECT")}
            arn = f"arn:aws:execute-api:{REGION}:{ACCOUNT_ID}:{api.id}/{api.stage}/$connect"
            self._authorizer = await self._gateway.authorizers.authorize(api.authorizer, request, arn, event)
        function = api.routes.get("$connect")
        if function is None:
            return None
        event = {
            **self._handshake(),
            "requestContext": self.context("$connect", "CONNECT"),
            "isBase64Encoded": False,
        }
        invocation = await self._gateway.lambda_.call(function, event, request.trace_id)
        response = ProxyResponse(function, invocation)
        if not 200 <= response.status < 300:
            return response.status
        subprotocols = [value for name, value in response.headers if name == b"sec-websocket-protocol"]
        return subprotocols[0].decode("latin-1") or None if subprotocols else None

    async def serve(self, receive: Receive, send: Send, subprotocol: str | None) -> None:
        """Accept and serve the connection until either side ends it, then run `$disconnect`."""
        connections, connection = self._gateway.connections, self._connection
        connections.add(connection)
        reader = asyncio.create_task(self._read(receive))
        writer = asyncio.create_task(self._write(send, subprotocol))
        closing = asyncio.create_task(connection.closing.wait())
        try:
            await asyncio.wait((reader, closing), return_when=asyncio.FIRST_COMPLETED)
            connections.remove(connection)
            await asyncio.wait((reader,), timeout=_CLOSE_SECONDS)
            code, reason = reader.result() if reader.done() else (1006, "")
        finally:
            connections.remove(connection)
            for task in (reader, writer, closing):
                task.cancel()
        await self._disconnect(code, reason)
        connection.finished.set()
        if self._messages:
            await asyncio.wait(self._messages)  # they were accepted, so they are processed

    async def _write(self, send: Send, subprotocol: str | None) -> None:
        # uvicorn raises ClientDisconnected, an OSError, for whoever left; the reader hears of it too.
        with contextlib.suppress(OSError):
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
            await self._connection.pump(send)

    async def _read(self, receive: Receive) -> tuple[int, str]:
        """Dispatch messages until the end of the connection; its close code and reason."""
        connection, limits = self._connection, self._gateway.limits
        ends_at = time.monotonic() + limits.connection_duration
        while True:
            idle = time.time_ns() / 1e9 - connection.last_active_at_ms / 1e3
            rest = min(limits.idle_timeout - idle, ends_at - time.monotonic())
            if rest <= 0 and not connection.closing.is_set():
                connection.close(*_GOING_AWAY)
            try:
                async with asyncio.timeout(None if connection.closing.is_set() else rest):
                    message = await receive()
            except TimeoutError:
                continue
            if message["type"] == "websocket.disconnect":
                return _close_of(message)
            connection.touch()
            await self._places.acquire()
            text = message.get("text")
            task = asyncio.create_task(self._dispatch(message["bytes"] if text is None else text))
            self._messages.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._messages.discard(task)
        self._places.release()

    async def _dispatch(self, message: str | bytes) -> None:
        key = self._gateway.select_route(message)
        context = self.context(key or "$default", "MESSAGE")
        if key is None:
            self._answer(_error_frame("Forbidden", context))
            return
        function = self._gateway.api.routes[key]
        is_text = isinstance(message, str)
        event: dict[str, Any] = {
            "requestContext": {**context, "messageId": context["extendedRequestId"]},
            "body": message if is_text else base64.b64encode(message).decode(),  # type: ignore[arg-type]
            "isBase64Encoded": not is_text,
        }
        if self._gateway.api.stage_variables:
            event["stageVariables"] = self._gateway.api.stage_variables
        try:
            invocation = await self._gateway.lambda_.call(function, event)
            if not invocation.ok or key in self._gateway.api.two_way_routes:
                response = ProxyResponse(function, invocation)
                self._answer(response.body.decode())
        except GatewayError as error:
            _LOG.warning("WebSocket route %s: %s", key, error)
            self._answer(_error_frame("Internal server error", context))

    def _answer(self, frame: str) -> None:
        if frame:
            try:
                self._connection.post(frame)
            except SlowConsumerError:
                _LOG.warning("WebSocket connection %s: too slow, an answer is lost", self._connection.id)

    async def _disconnect(self, code: int, reason: str) -> None:
        """Best effort, as on AWS: whatever comes of it, the client has gone."""
        function = self._gateway.api.routes.get("$disconnect")
        if function is None:
            return
        headers = {"Host": self.request.domain_name, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
        event = {
            "headers": headers,
            "multiValueHeaders": {name: [value] for name, value in headers.items()},
            "requestContext": {
                **self.context("$disconnect", "DISCONNECT"),
                "disconnectStatusCode": code,
                "disconnectReason": reason or _DEFAULT_REASONS.get(code, ""),
            },
            "isBase64Encoded": False,
        }
        try:
            invocation = await self._gateway.lambda_.call(function, event)
        except GatewayError as error:
            _LOG.warning("WebSocket $disconnect: %s", error)
        else:
            if not invocation.ok:
                _LOG.warning("WebSocket $disconnect: %s failed: %r", function, invocation.payload[:500])

    def context(self, route_key: str, event_type: str) -> dict[str, Any]:
        """The `requestContext` of an event that happens now."""
        now_ms = time.time_ns() // 1_000_000
        id_ = extended_request_id()
        context: dict[str, Any] = {
            "routeKey": route_key,
            "eventType": event_type,
            "extendedRequestId": id_,
            "requestTime": clf_time(now_ms // 1000),
            "messageDirection": "IN",
            "stage": self._gateway.api.stage,
            "connectedAt": self._connection.connected_at_ms,
            "requestTimeEpoch": now_ms,
            "identity": {"userAgent": self.request.user_agent, "sourceIp": self.request.source_ip},
            "requestId": id_,
            "domainName": self.request.domain_name,
            "connectionId": self._connection.id,
            "apiId": self._gateway.api.id,
        }
        if self._authorizer is not None:
            context["authorizer"] = self._authorizer
        return context

    def _handshake(self) -> dict[str, Any]:
        """What the handshake brings: without a query string the fields for it are left out."""
        request, variables = self.request, self._gateway.api.stage_variables
        event: dict[str, Any] = {"headers": request.headers, "multiValueHeaders": request.multi_value_headers}
        if request.query is not None:
            event["queryStringParameters"] = request.query
            event["multiValueQueryStringParameters"] = request.multi_value_query
        if variables:
            event["stageVariables"] = variables
        return event


def _parse_selection(expression: str) -> tuple[str, ...]:
    """The path that a route selection expression takes into the body, `$request.body.a.b` or `${request.body.a}`."""
    plain = f"${expression[2:-1]}" if expression.startswith("${") and expression.endswith("}") else expression
    if not plain.startswith(_SELECTION_PREFIX):
        raise ValueError(f"the route selection expression must be {_SELECTION_PREFIX}…, got {expression}")
    return tuple(plain.removeprefix(_SELECTION_PREFIX).split("."))


def _select(path: tuple[str, ...], message: str | bytes) -> str:
    """What the message has at `path`; nothing for binary messages and for what is no JSON."""
    if isinstance(message, bytes):
        return ""
    try:
        value: Any = orjson.loads(message)
    except ValueError:
        return ""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _close_of(message: Mapping[str, Any]) -> tuple[int, str]:
    """uvicorn reports a connection that broke without a close frame as 1005, but gives no reason with it."""
    if "reason" not in message and message.get("code") == 1005:
        return 1006, ""
    return message.get("code", 1005), message.get("reason") or ""


def _error_frame(text: str, context: Mapping[str, Any]) -> str:
    frame = {"message": text, "connectionId": context["connectionId"], "requestId": context["requestId"]}
    return orjson.dumps(frame).decode()


async def _respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Refuse the handshake with an HTTP response (ASGI's `websocket.http.response` extension)."""
    with contextlib.suppress(OSError):
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
