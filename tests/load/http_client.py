"""A keep-alive HTTP/1.1 connection that costs next to nothing, so that what is measured is the server.

httpx takes about a millisecond of CPU per request, as much as the gateway itself; asyncio with httptools takes
some fifty microseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import orjson


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class UnexpectedStatusError(RuntimeError):
    """An answer that makes the measurement worthless."""


class HttpClient:
    """One connection, one request at a time. Use as an asynchronous context manager."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        """`headers` go with every request."""
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._headers = dict(headers or {})
        self._exchange: _Exchange

    async def __aenter__(self) -> HttpClient:
        await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._exchange.transport.close()

    async def request(self, method: str, target: str, json: Any = None) -> Answer:
        """Raises ConnectionError when the server closes the connection before its answer."""
        if self._exchange.transport.is_closing():  # idle for longer than the server keeps connections
            await self._connect()
        body = b"" if json is None else orjson.dumps(json)
        headers = {"Host": f"{self._host}:{self._port}", "Content-Length": str(len(body)), **self._headers}
        if body:
            headers["Content-Type"] = "application/json"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return await self._exchange.send(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    async def expect(self, status: int, method: str, target: str, json: Any = None) -> Answer:
        """The answer, whose status must be this. Raises UnexpectedStatusError."""
        answer = await self.request(method, target, json)
        if answer.status != status:
            raise UnexpectedStatusError(f"{method} {target}: {answer.status} {answer.body[:300]!r}, not {status}")
        return answer

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, self._exchange = await loop.create_connection(_Exchange, self._host, self._port)


class _Exchange(asyncio.Protocol):
    """The `on_*` methods are httptools' callbacks."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._answer: asyncio.Future[Answer] | None = None
        self._parser: httptools.HttpResponseParser
        self._body: list[bytes] = []

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        self._answer = asyncio.get_running_loop().create_future()
        self._body = []
        self._parser = httptools.HttpResponseParser(self)
        self.transport.write(request)
        return self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not of the class

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._parser.get_status_code(), b"".join(self._body)))
