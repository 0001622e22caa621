"""Open WebSocket connections, and the `@connections` API through which functions reach them."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import orjson

from local.gateway.limits import MAXIMUM_MESSAGE_BYTES
from local.gateway.request import Request, Scope
from local.gateway.rest import Receive, Send

# How much may wait for one client, beyond what the sockets' own buffers hold.
_MAXIMUM_WAITING_BYTES = 1024 * 1024
_MAXIMUM_WAITING_MESSAGES = 1000

_SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 +Credential=")


class SlowConsumerError(RuntimeError):
    """The client does not read as fast as it is written to."""


@dataclass(eq=False)
class Connection:
    """One client. What is sent to it waits in a queue of its own, so that a slow one delays no other.

    `closing` is set once it is being closed from this side, `finished` when its `$disconnect` has run.
    """

    id: str
    source_ip: str
    user_agent: str | None
    connected_at_ms: int
    last_active_at_ms: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: asyncio.Queue[str | bytes | tuple[int, str]] = field(default_factory=asyncio.Queue)
    _waiting_bytes: int = 0

    def __post_init__(self) -> None:
        self.touch()

    def touch(self) -> None:
        self.last_active_at_ms = time.time_ns() // 1_000_000

    def post(self, message: str | bytes) -> None:
        """Queue a text or binary message. Raises SlowConsumerError when too much is waiting already."""
        size = len(message)
        if self._waiting.qsize() >= _MAXIMUM_WAITING_MESSAGES or self._waiting_bytes + size > _MAXIMUM_WAITING_BYTES:
            raise SlowConsumerError(self.id)
        self._waiting_bytes += size
        self._waiting.put_nowait(message)

    def close(self, code: int, reason: str) -> None:
        """Close after everything queued before."""
        self.closing.set()
        self._waiting.put_nowait((code, reason))

    async def pump(self, send: Send) -> None:
        """Write what is queued to the client until it is told to close."""
        while True:
            message = await self._waiting.get()
            if isinstance(message, tuple):
                code, reason = message
                await send({"type": "websocket.close", "code": code, "reason": reason})
                return
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
            self._waiting_bytes -= len(message)
            self.touch()


class Connections:
    """The open connections by id."""

    def __init__(self) -> None:
        self._open: dict[str, Connection] = {}

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._open.values()))

    def get(self, connection_id: str) -> Connection | None:
        return self._open.get(connection_id)

    def add(self, connection: Connection) -> None:
        self._open[connection.id] = connection

    def remove(self, connection: Connection) -> None:
        self._open.pop(connection.id, None)


class ConnectionApi:
    """`POST`, `GET` and `DELETE /@connections/{id}`, as boto3's `apigatewaymanagementapi` speaks to it.

    Deployed, calls are authorized by IAM. Here a SigV4 `Authorization` header must be there, which keeps
    web pages from pushing to connections, but its signature is not verified: no caller has a secret.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        body = await _read(receive)
        status, error_type, payload = self._answer(request, body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(payload)).encode()),
            (b"x-amzn-requestid", str(uuid.uuid4()).encode()),
        ]
        if error_type:
            headers.append((b"x-amzn-errortype", error_type.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})

    def _answer(self, request: Request, body: bytes | None) -> tuple[int, str | None, bytes]:
        if not _SIGNATURE.match(request.header("authorization") or ""):
            return _error(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        connection = self._connections.get(unquote(request.path.rpartition("/@connections/")[2]))
        if connection is None:
            return 410, "GoneException", b""
        if request.method == "GET":
            return 200, None, orjson.dumps(_describe(connection))
        if request.method == "DELETE":
            connection.close(1000, "")
            self._connections.remove(connection)
            return 204, None, b""
        if request.method != "POST":
            return _error(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        if body is None:
            return _error(413, "PayloadTooLargeException", "Message too long")
        try:
            connection.post(_text_or_bytes(body))
        except SlowConsumerError:
            return _error(429, "LimitExceededException", "The client-side buffer of the connection is full")
        return 200, None, b""


async def _read(receive: Receive) -> bytes | None:
    """The body, None when it is over the limit."""
    body = bytearray()
    while True:
        message = await receive()
        if len(body) <= MAXIMUM_MESSAGE_BYTES:
            body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body) if len(body) <= MAXIMUM_MESSAGE_BYTES else None


def _text_or_bytes(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body


def _error(status: int, type_: str, message: str) -> tuple[int, str, bytes]:
    return status, type_, orjson.dumps({"message": message})


def _describe(connection: Connection) -> dict[str, Any]:
    return {
        "connectedAt": _timestamp(connection.connected_at_ms),
        "identity": {"sourceIp": connection.source_ip, "userAgent": connection.user_agent},
        "lastActiveAt": _timestamp(connection.last_active_at_ms),
    }


def _timestamp(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
