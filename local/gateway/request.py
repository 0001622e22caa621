"""The HTTP request (or WebSocket handshake) as API Gateway's events describe it."""

from __future__ import annotations

import base64
import functools
import os
import time
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

Scope = dict[str, Any]

# RFC 9110 section 7.6.1, and what API Gateway consumes itself (a Lambda proxy event has no Content-Length).
_NOT_PASSED_ON = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_LOWER_CASE_HEADERS = frozenset({"traceparent", "tracestate", "baggage"})
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Request:
    """What is read from an ASGI scope, once.

    ASGI lower-cases header names; they are given back the case clients write them in, since REST API
    events carry names as sent. `headers` has the last value of each, `multi_value_headers` all of them.
    """

    __slots__ = (
        "domain_name",
        "headers",
        "method",
        "multi_value_headers",
        "multi_value_query",
        "path",
        "protocol",
        "query",
        "request_id",
        "source_ip",
        "time_ms",
        "trace_id",
        "user_agent",
    )

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope.get("method", "GET")
        self.path: str = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        self.protocol = f"HTTP/{scope.get('http_version', '1.1')}"
        self.request_id = str(uuid.uuid4())
        self.time_ms = time.time_ns() // 1_000_000
        client = scope.get("client")
        self.source_ip: str = client[0] if client else "127.0.0.1"
        self.multi_value_headers = _read_headers(scope["headers"])
        self._add_forwarding(scope)
        self.headers = {name: values[-1] for name, values in self.multi_value_headers.items()}
        self.domain_name = self.headers.get("Host", "")
        self.user_agent = self.headers.get("User-Agent")
        self.query, self.multi_value_query = _read_query(scope["query_string"])

    def header(self, name: str) -> str | None:
        return self.headers.get(canonical_name(name.encode("latin-1").lower()))

    def _add_forwarding(self, scope: Scope) -> None:
        """The headers that API Gateway adds; a trace that the client began is continued."""
        headers = self.multi_value_headers
        server = scope.get("server")
        forwarded_for = [*headers.get("X-Forwarded-For", ()), self.source_ip]
        headers["X-Forwarded-For"] = [", ".join(forwarded_for)]
        headers["X-Forwarded-Port"] = [str(server[1]) if server and server[1] else "80"]
        headers["X-Forwarded-Proto"] = ["https" if scope.get("scheme") in ("https", "wss") else "http"]
        trace_ids = headers.setdefault("X-Amzn-Trace-Id", [])
        if not trace_ids:
            trace_ids.append(f"Root=1-{self.time_ms // 1000:08x}-{os.urandom(12).hex()}")
        self.trace_id = trace_ids[-1]


def extended_request_id() -> str:
    """Like the `x-amz-apigw-id` header: 16 characters of Base64; connection and message ids look alike."""
    return base64.urlsafe_b64encode(os.urandom(11)).decode()


@functools.lru_cache(maxsize=8)
def clf_time(seconds: int) -> str:
    """A time as in `09/Apr/2015:12:34:56 +0000`, whatever the process's locale."""
    at = time.gmtime(seconds)
    return f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} +0000"


@functools.lru_cache(maxsize=512)
def canonical_name(name: bytes) -> str:
    text = name.decode("latin-1")
    return text if text in _LOWER_CASE_HEADERS else "-".join(part.capitalize() for part in text.split("-"))


def _read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in raw:
        if name not in _NOT_PASSED_ON:
            headers.setdefault(canonical_name(name), []).append(value.decode("latin-1"))
    return headers


def _read_query(raw: bytes) -> tuple[dict[str, str] | None, dict[str, list[str]] | None]:
    if not raw:
        return None, None
    multi_value: dict[str, list[str]] = {}
    for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
        multi_value.setdefault(name, []).append(value)
    if not multi_value:
        return None, None
    return {name: values[-1] for name, values in multi_value.items()}, multi_value
