"""The Lambda Runtime API (2018-06-01) for one execution environment.

An environment has a listening socket of its own because the runtime client names itself by nothing else: which
environment is asking is known by where it asks. Two requests make an invocation, the long poll for the next event
and the post of the result; both come over one kept-alive connection of the runtime client (libcurl).
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Protocol, cast

import httptools

from local.workers.invocation import MAXIMUM_RESPONSE_BYTES

ROOT = "/2018-06-01/runtime/"


class RuntimeEvents(Protocol):
    """What the runtime in the environment did. Each call runs in the event loop and must not block."""

    def runtime_polled(self) -> None:
        """It asked for the next event, so it has finished whatever came before."""

    def invocation_responded(self, response: bytes | None) -> None:
        """The result of the current invocation; None when it was over the size limit."""

    def invocation_failed(self, document: bytes) -> None:
        """The error document of the current invocation."""

    def initialisation_failed(self, document: bytes) -> None:
        """The error document of the initialisation."""


class RuntimeApi:
    """Hands events to the runtime as it asks for them and passes on what it reports."""

    def __init__(self, events: RuntimeEvents) -> None:
        self._events = events
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._polling: _Connection | None = None
        self._offered: tuple[str, bytes] | None = None
        self._current: str | None = None  # the request the runtime has and has not answered

    async def start(self) -> str:
        """Listen; returns the `host:port` for AWS_LAMBDA_RUNTIME_API."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), sock=listener)
        host, port = listener.getsockname()
        return f"{host}:{port}"

    @property
    def delivered(self) -> bool:
        """Whether the event offered last has reached the runtime."""
        return self._offered is None

    def offer(self, request_id: str, event: bytes, headers: Mapping[str, str]) -> None:
        """Answer the runtime's poll with this event: now if it is polling, else as soon as it does.

        `headers` are the `Lambda-Runtime-*` ones apart from the request id; values must not hold line breaks.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Lambda-Runtime-Aws-Request-Id: {request_id}\r\n{lines}Content-Length: {len(event)}\r\n\r\n"
        )
        self._offered = (request_id, head.encode() + event)
        self._deliver()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.abort()

    def _deliver(self) -> None:
        if self._offered is not None and self._polling is not None:
            self._current, message = self._offered
            connection, self._polling, self._offered = self._polling, None, None
            connection.write(message)

    def _handle(self, connection: _Connection, method: bytes, path: str, body: bytes | None) -> None:
        """`body` is None when it was over the size limit of a response."""
        match method, path.removeprefix(ROOT).split("/"):
            case b"GET", ["invocation", "next"]:
                self._polling = connection
                self._events.runtime_polled()
                self._deliver()
            case b"POST", ["init", "error"]:
                connection.accept()
                self._events.initialisation_failed(body or b"")
            case b"POST", ["invocation", request_id, "response" | "error" as outcome]:
                if request_id != self._current:
                    connection.refuse("400 Bad Request", "InvalidRequestID", "Invalid request ID")
                    return
                self._current = None
                if body is None:
                    connection.refuse(
                        "413 Request Entity Too Large",
                        "RequestEntityTooLarge",
                        f"Exceeded maximum allowed payload size ({MAXIMUM_RESPONSE_BYTES} bytes).",
                    )
                    self._events.invocation_responded(None)
                    return
                connection.accept()
                if outcome == "response":
                    self._events.invocation_responded(body)
                else:
                    self._events.invocation_failed(body)
            case _:
                connection.refuse("404 Not Found", "NotFound", "Unknown Runtime API path")

    def _opened(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def _lost(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if self._polling is connection:
            self._polling = None


class _Connection(asyncio.Protocol):
    """One HTTP connection of the runtime client. The `on_*` methods are httptools' callbacks."""

    _ACCEPTED = (
        b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'
    )

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._url = b""
        self._body: list[bytes] = []
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not of the class
        self._api._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio names it)
        self._api._lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.refuse("400 Bad Request", "InvalidRequest", "Malformed HTTP request")
            self._transport.close()

    def on_message_begin(self) -> None:
        self._url = b""
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes <= MAXIMUM_RESPONSE_BYTES:
            self._body.append(body)
        else:
            self._body.clear()

    def on_message_complete(self) -> None:
        body = b"".join(self._body) if self._body_bytes <= MAXIMUM_RESPONSE_BYTES else None
        self._api._handle(self, self._parser.get_method(), self._url.decode("latin-1"), body)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def abort(self) -> None:
        self._transport.abort()

    def accept(self) -> None:
        self.write(self._ACCEPTED)

    def refuse(self, status: str, error_type: str, message: str) -> None:
        body = json.dumps({"errorMessage": message, "errorType": error_type}).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.write(head.encode() + body)
