"""Passing requests on to moto."""

from __future__ import annotations

import json
import logging
import uuid

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local.application import ACCOUNT_ID

logger = logging.getLogger(__name__)

# https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1: what concerns one connection is not passed on.
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect")
)

# Receiving from a queue waits for up to 20 s, GetActivityTask for 60 s.
_TIMEOUT = httpx.Timeout(90, connect=5)


class Proxy:
    """An ASGI application that answers as the server at `upstream` does, or 503 when there is no answer."""

    def __init__(self, upstream: str) -> None:
        # The pool is not limited: each poller of a queue holds a connection all the time.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(base_url=upstream, timeout=_TIMEOUT, limits=limits, trust_env=False)
        del self._client.headers["accept-encoding"]  # what the caller accepts counts, not what httpx does

    async def close(self) -> None:
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._pass_on(request)
        except httpx.TransportError as error:
            logger.warning("the AWS emulation does not answer: %s", error or type(error).__name__)
            response = _unavailable()
        await response(scope, receive, send)

    async def _pass_on(self, request: Request) -> Response:
        target = request.scope["raw_path"]
        if query := request.scope["query_string"]:
            target += b"?" + query
        headers = [
            (name, value)
            for name, value in request.headers.raw
            if name not in _HOP_BY_HOP and name != b"content-length"  # the content may change here
        ]
        # What tells moto the account; without it ARNs have moto's own.
        headers.append((b"x-moto-account-id", ACCOUNT_ID.encode()))
        content = _with_execution_name(request, await request.body())
        upstream = self._client.base_url.copy_with(raw_path=target)
        # Streamed, so that the body goes back as it came, compressed or not.
        async with self._client.stream(request.method, upstream, headers=headers, content=content) as answer:
            body = b"".join([chunk async for chunk in answer.aiter_raw()])
        response = Response(body, answer.status_code)
        response.raw_headers = [
            (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP_BY_HOP
        ]
        return response


def _with_execution_name(request: Request, body: bytes) -> bytes:
    """Name an execution that has no name, as Step Functions does: moto calls all of them `None`, and takes one."""
    if request.headers.get("x-amz-target") != "AWSStepFunctions.StartExecution":
        return body
    try:
        parameters = json.loads(body)
        parameters.setdefault("name", str(uuid.uuid4()))
    except (ValueError, AttributeError):
        return body  # for moto to refuse
    return json.dumps(parameters).encode()


def _unavailable() -> Response:
    """An error that AWS clients try again after, whichever protocol they speak: they all know one without a body."""
    return Response(status_code=503, headers={"x-amzn-errortype": "ServiceUnavailable"})
