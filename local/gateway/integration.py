"""Calling a function for API Gateway, and reading what a proxy integration returns."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from local.gateway.errors import (
    BAD_FUNCTION_RESPONSE,
    INTEGRATION_TIMEOUT,
    INVOCATION_REFUSED,
    REQUEST_TOO_LARGE,
    GatewayError,
)
from local.workers import (
    FunctionNotFoundError,
    Invocation,
    PayloadTooLargeError,
    TooManyRequestsError,
    WorkersStoppedError,
)

_LOG = logging.getLogger(__name__)

_RESPONSE_KEYS = frozenset({"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"})
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html
_REMAPPED = frozenset({"connection", "content-length", "date", "server", "www-authenticate"})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.1
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DROPPED = frozenset({"keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"})


class FunctionInvoker(Protocol):
    """What the gateway needs of `local.workers.Workers`."""

    async def invoke(self, name: str, payload: bytes, *, trace_id: str | None = None) -> Invocation: ...


class Lambda:
    """Invokes functions with API Gateway's time limit and turns failures into API Gateway's errors."""

    def __init__(self, workers: FunctionInvoker, *, timeout_seconds: float) -> None:
        self._workers = workers
        self._timeout_seconds = timeout_seconds

    async def call(self, function: str, event: Mapping[str, Any], trace_id: str | None = None) -> Invocation:
        """The outcome of one invocation, which may be the function's own error.

        Raises GatewayError when there is none: Lambda refused it, or it took too long. The function itself
        runs on then, as it does on AWS.
        """
        if trace_id is not None and not trace_id.isprintable():
            trace_id = None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._workers.invoke(function, orjson.dumps(event), trace_id=trace_id)
        except TimeoutError:
            reason = f"{function} did not answer within {self._timeout_seconds:g} s"
            raise GatewayError(INTEGRATION_TIMEOUT, reason=reason) from None
        except PayloadTooLargeError as error:
            raise GatewayError(REQUEST_TOO_LARGE, reason=f"{function}: {error}") from error
        except (FunctionNotFoundError, TooManyRequestsError, WorkersStoppedError) as error:
            raise GatewayError(INVOCATION_REFUSED, reason=f"{function}: {error}") from error


class ProxyResponse:
    """A function's response, checked as API Gateway checks it.

    Every field may be missing, none other may be there, and header values are strings or booleans.
    Raises GatewayError (502) for anything else and for a function that failed.
    """

    __slots__ = ("body", "headers", "is_base64_encoded", "status")

    def __init__(self, function: str, invocation: Invocation) -> None:
        if not invocation.ok:
            raise GatewayError(BAD_FUNCTION_RESPONSE, reason=f"{function} failed: {invocation.payload[:500]!r}")
        try:
            response = orjson.loads(invocation.payload)
            if not isinstance(response, dict) or not _RESPONSE_KEYS.issuperset(response):
                raise ValueError(f"it may have {', '.join(sorted(_RESPONSE_KEYS))} and nothing else")
            self.status = _read_status(response.get("statusCode"))
            self.headers = _read_headers(response.get("headers"), response.get("multiValueHeaders"))
            self.is_base64_encoded = bool(response.get("isBase64Encoded"))
            self.body = _read_body(response.get("body"))
        except ValueError as error:  # of orjson too
            shown = invocation.payload[:200].decode(errors="replace")
            _LOG.warning("%s: malformed Lambda proxy response: %s; got %s", function, error, shown)
            raise GatewayError(BAD_FUNCTION_RESPONSE, reason=f"{function}: malformed Lambda proxy response") from error

    def decoded_body(self, function: str) -> bytes:
        try:
            return base64.b64decode(self.body, validate=True)
        except binascii.Error as error:
            raise GatewayError(BAD_FUNCTION_RESPONSE, reason=f"{function}: body is not Base64") from error


def _read_status(status: object) -> int:
    if status is None:
        return 200
    if isinstance(status, bool) or not isinstance(status, int | str):
        raise ValueError("statusCode must be a number")
    code = int(status)
    if not 100 <= code <= 599:
        raise ValueError("statusCode must be an HTTP status")
    return code


def _read_headers(headers: object, multi_value_headers: object) -> list[tuple[bytes, bytes]]:
    """`multiValueHeaders` win over `headers` of the same name; others of both are merged."""
    merged: dict[str, list[object]] = {}
    for source in (headers, multi_value_headers):
        if source is None:
            continue
        if not isinstance(source, dict):
            raise ValueError("headers and multiValueHeaders must be objects")
        for name, value in source.items():
            values = value if source is multi_value_headers else [value]
            if not isinstance(values, list):
                raise ValueError(f"the values of multiValueHeaders must be lists, {name} is not")
            merged[name.lower()] = values
    pairs = []
    for name, values in merged.items():
        if name in _DROPPED:
            continue
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no header name")
        sent_name = f"x-amzn-remapped-{name}" if name in _REMAPPED else name
        pairs += [(sent_name.encode("latin-1"), _header_value(name, value)) for value in values]
    return pairs


def _header_value(name: str, value: object) -> bytes:
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if not isinstance(value, str):
        raise ValueError(f"header {name} must be a string")
    if _CONTROL_CHARACTER.search(value):
        raise ValueError(f"header {name} has a control character in it")
    return value.encode("latin-1")


def _read_body(body: object) -> bytes:
    if body is None:
        return b""
    if not isinstance(body, str):
        raise ValueError("body must be a string")
    return body.encode()
