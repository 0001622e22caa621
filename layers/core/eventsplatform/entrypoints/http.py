"""REST endpoints: FastAPI validates and documents, Mangum adapts API Gateway's proxy events to it.

`HttpFunction` owns what all endpoints share. Before an endpoint sees a request: its form and size, the caller, the
gate (revocation and rate limits in one round trip), the access rule, the Idempotency-Key. After it: the error map
(RFC 9457), request ids, response headers, logs, the trace and the request metrics.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, TypeVar

import orjson
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from mangum import Mangum
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from eventsplatform.config import read_setting
from eventsplatform.deadline import ending_in
from eventsplatform.entrypoints.access import Access
from eventsplatform.entrypoints.content import check_content
from eventsplatform.entrypoints.negotiation import negotiate
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.validation import detail, pointer
from eventsplatform.errors import (
    FieldError,
    InvalidInputError,
    MalformedRequestError,
    NotAcceptableError,
    PlatformError,
    from_http_status,
)
from eventsplatform.gate.model import LimitClass
from eventsplatform.gate.service import Gate
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.identity.caller import Caller, Client
from eventsplatform.observability import begin_invocation, header, logger, record_http_request

Service = TypeVar("Service")

# Answers are private unless an endpoint says otherwise, and no page of their own (OWASP REST Security Cheat Sheet).
# API Gateway's own answers have the same, of the template.
DEFAULT_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none';",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

# What a page of another origin may read besides the headers that the Fetch standard lists as safe.
EXPOSED_HEADERS = (
    "Content-Disposition",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-Id",
)

JSON = "application/json"

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})

# Everything else is sent as base64, which API Gateway decodes only for the API's binary media types.
TEXT_TYPES = ["text/", "application/json", "application/problem+json", "image/svg+xml"]


@dataclass(frozen=True)
class _Admitted:
    """A request that may be handled: whose it is, its name if it has one, and what the gate adds to its answer."""

    caller: Caller | None
    client: Client
    named: NamedRequest | None
    address: str
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpFunction:
    """One REST function. `handler` is what Lambda calls; `app` is its FastAPI application.

    `access` says who may use it and `limit` how often; without one it is not limited. `secret_content` is for
    endpoints whose requests or answers hold secrets: an answer that is kept for a repeat is kept sealed.
    `forms` are media types that the endpoint offers beside JSON, each with its limit.
    """

    def __init__(
        self,
        *,
        access: Access,
        limit: LimitClass | None,
        secret_content: bool = False,
        forms: Mapping[str, LimitClass] | None = None,
    ) -> None:
        self.access = access
        self.limit = limit
        self.forms = forms or {}
        self._secret_content = secret_content
        self._admitted: _Admitted | None = None
        self.app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        self.app.add_exception_handler(PlatformError, _answer_platform_error)
        self.app.add_exception_handler(RequestValidationError, _answer_validation_error)
        self.app.add_exception_handler(HTTPException, _answer_framework_error)
        self.app.add_exception_handler(Exception, _answer_unexpected_error)
        self._adapter = Mangum(_Contained(self.app), lifespan="off", text_mime_types=TEXT_TYPES)
        self.get = self.app.get
        self.post = self.app.post
        self.put = self.app.put
        self.patch = self.app.patch
        self.delete = self.app.delete

    def provide(self, service: type[Service]) -> Any:
        """An argument default that injects the service, built on the first request."""

        async def injected() -> Service:
            return provide(service)

        return Depends(injected)

    def caller(self) -> Any:
        """An argument default that injects the Caller that the access rule has let through."""

        async def authenticated() -> Caller | None:
            return self._in_hand.caller

        return Depends(authenticated)

    def optional_caller(self) -> Any:
        """An argument default for endpoints that are open to all but show more to some: a Caller or None."""
        return self.caller()

    def form(self) -> Any:
        """An argument default that injects the media type, JSON or one of `forms`, that the client prefers."""

        async def preferred(request: Request) -> str:
            return self._preferred(request.headers.get("accept", ""))

        return Depends(preferred)

    def client(self) -> Any:
        """An argument default that injects the Client that the request came from."""

        async def connected() -> Client:
            return self._in_hand.client

        return Depends(connected)

    def address(self) -> Any:
        """An argument default that injects the URL that the request was sent to, without its query."""

        async def addressed() -> str:
            return self._in_hand.address

        return Depends(addressed)

    @property
    def _in_hand(self) -> _Admitted:
        assert self._admitted is not None
        return self._admitted

    @cached_property
    def _event_loop(self) -> asyncio.AbstractEventLoop:
        """The adapter runs requests on the thread's event loop, which any `asyncio.run` would take away."""
        return asyncio.new_event_loop()

    def handler(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        with ending_in(context.get_remaining_time_in_millis()):
            return self._handle(event, context)

    def _handle(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        started = time.perf_counter()
        request_id = event["requestContext"]["requestId"]
        begin_invocation(
            traceparent=header(event["headers"], "traceparent"),
            request_id=request_id,
            function_request_id=context.aws_request_id,
        )
        try:
            self._admitted = self._admit(event)
            asyncio.set_event_loop(self._event_loop)
            with handling_request(self._admitted.named):
                result: dict[str, Any] = self._adapter(event, context)
        except UnicodeEncodeError:
            # JSON's escapes can write half a character; the adapter makes bytes of the request.
            error = MalformedRequestError("The request is not Unicode text.")
            result = _as_result(error, instance=event["path"], request_id=request_id)
        except PlatformError as error:
            result = _as_result(error, instance=event["path"], request_id=request_id)
        except Exception:
            logger.exception("unexpected error")
            result = _as_result(_unexpected(), instance=event["path"], request_id=request_id)
        headers = result.setdefault("headers", {}) or {}
        defaults = {**DEFAULT_HEADERS, **_cross_origin_headers(), **self._answer_headers()}
        result["headers"] = {**_absent(defaults, headers), **headers, "x-request-id": request_id}
        self._admitted = None
        record_http_request(
            method=event["httpMethod"],
            endpoint=event["resource"],
            status=result["statusCode"],
            seconds=time.perf_counter() - started,
        )
        return result

    def _admit(self, event: dict[str, Any]) -> _Admitted:
        """Raises a PlatformError for a request that is not to be handled."""
        content = check_content(event)
        # An endpoint without a limit is open to all and looks at no token.
        caller = _caller(event) if self.limit is not None and self.access.looks_at_tokens else None
        identity = event["requestContext"]["identity"]
        client = Client(address=identity["sourceIp"], user_agent=identity.get("userAgent") or "")
        headers: Mapping[str, str] = {}
        if (limit := self._limit_of(event)) is not None:
            headers = provide(Gate).admit(caller, client.address, limit).headers
        self.access.check(caller, _is_verified)
        return _Admitted(caller, client, self._named(event, caller, client, content), _address(event), headers)

    def _limit_of(self, event: dict[str, Any]) -> LimitClass | None:
        """A form that there isn't counts as any request; the endpoint refuses it."""
        with suppress(NotAcceptableError):
            return self.forms.get(self._preferred(header(event["headers"], "accept") or ""), self.limit)
        return self.limit

    def _preferred(self, accept: str) -> str:
        """Raises NotAcceptableError."""
        binary = [form for form in self.forms if not form.startswith(tuple(TEXT_TYPES))]
        return negotiate(accept, (JSON, *self.forms), binary=binary)

    def _named(
        self, event: dict[str, Any], caller: Caller | None, client: Client, content: bytes
    ) -> NamedRequest | None:
        key = header(event["headers"], "idempotency-key")
        if key is None or event["httpMethod"] not in WRITES:
            return None
        return NamedRequest.of(
            caller=str(caller.user_id) if caller else client.address,
            method=event["httpMethod"],
            path=event["path"],
            key=key,
            content=content + orjson.dumps(event.get("multiValueQueryStringParameters") or {}),
            secret=self._secret_content,
        )

    def _answer_headers(self) -> dict[str, str]:
        if self._admitted is None:
            return {}
        replayed = self._admitted.named is not None and self._admitted.named.replayed
        return {**self._admitted.headers, **({"Idempotency-Replayed": "true"} if replayed else {})}


class _Contained:
    """Ends an unexpected exception here: it has been answered and logged, and Mangum would log it again."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:
            logger.exception("unexpected error")


def _address(event: dict[str, Any]) -> str:
    """As API Gateway has it, with the stage or the base path that it takes off the function's."""
    context = event["requestContext"]
    scheme = header(event["headers"], "x-forwarded-proto") or "https"
    return f"{scheme}://{context['domainName']}{context['path']}"


def _caller(event: dict[str, Any]) -> Caller | None:
    """Whom the authorizer or, on a route that is open to all, the token itself names.

    Open routes have no authorizer: API Gateway would refuse a request without its identity source. Raises
    UnauthenticatedError for a token that is present but not valid.
    """
    context = event["requestContext"].get("authorizer") or {}
    if "sub" in context:
        return Caller.from_context(context)
    authorization = header(event["headers"], "authorization")
    if authorization is None:
        return None
    from eventsplatform.identity.tokens import AccessTokenVerifier

    return provide(AccessTokenVerifier).verify_header(authorization)


def _is_verified(caller: Caller) -> bool:
    return provide(Gate).is_verified(caller)


@cache
def _cross_origin_headers() -> dict[str, str]:
    """What lets the pages of one other origin read answers (https://fetch.spec.whatwg.org/#http-cors-protocol).

    API Gateway answers preflights only; of a proxy integration it passes the headers on as they are.
    """
    origin = read_setting("CORS_ORIGIN", str, default="")
    if not origin:
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": ", ".join(EXPOSED_HEADERS)}


def _absent(defaults: dict[str, str], headers: dict[str, str]) -> dict[str, str]:
    present = {name.lower() for name in headers}
    return {name: value for name, value in defaults.items() if name.lower() not in present}


def _as_result(error: PlatformError, *, instance: str, request_id: str) -> dict[str, Any]:
    return {
        "statusCode": int(error.status),
        "headers": {"content-type": "application/problem+json", **error.headers},
        "multiValueHeaders": {},
        "body": json.dumps(error.as_problem(instance=instance, request_id=request_id), ensure_ascii=False),
        "isBase64Encoded": False,
    }


def _answer(request: Request, error: PlatformError) -> Response:
    body = error.as_problem(
        instance=request.url.path, request_id=request.scope["aws.event"]["requestContext"]["requestId"]
    )
    return Response(
        json.dumps(body, ensure_ascii=False),
        status_code=int(error.status),
        media_type="application/problem+json",
        headers=error.headers,
    )


async def _answer_platform_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlatformError)
    return _answer(request, error)


async def _answer_framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _answer(request, from_http_status(error.status_code, str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer


async def _answer_unexpected_error(request: Request, _error: Exception) -> Response:
    return _answer(request, _unexpected())


def _unexpected() -> PlatformError:
    return PlatformError("Something went wrong on our side; it has been logged under the request id.")


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    for problem in problems:
        if problem["type"] == "json_invalid":
            position = problem["loc"][-1]
            return _answer(
                request,
                MalformedRequestError(f"The body is not JSON: {problem['ctx']['error']} at character {position}."),
            )
    return _answer(request, InvalidInputError([FieldError(_pointer(p["loc"]), detail(p)) for p in problems]))


def _pointer(location: tuple[int | str, ...]) -> str:
    """`("body", "location", "lat")` → `/location/lat`; other sources keep their name: `/query/limit`."""
    return pointer(location[1:] if location[0] == "body" else location)
