"""The REST API: an HTTP request becomes a proxy event (version 1.0), its result an HTTP response."""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from local.application import ACCOUNT_ID, REGION, Cors, RestApi
from local.gateway.authorizers import Authorizers
from local.gateway.errors import MISSING_AUTHENTICATION_TOKEN, REQUEST_TOO_LARGE, GatewayError, GatewayResponses
from local.gateway.integration import Lambda, ProxyResponse
from local.gateway.limits import MAXIMUM_PAYLOAD_BYTES
from local.gateway.request import Request, Scope, clf_time, extended_request_id
from local.gateway.routing import Match, RouteTable
from local.gateway.validation import check_body

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_LOG = logging.getLogger(__name__)

# A body over the limit is read on so far, since a client that is still writing sees a reset and no answer.
_DRAINED_BYTES = 10 * MAXIMUM_PAYLOAD_BYTES

_PREFLIGHT_BODY = b"{}\n"


class ClientGoneError(Exception):
    """The client left before its request was complete."""


class RestGateway:
    """Serves one REST API at the root path, as a custom domain with an empty base path mapping does."""

    def __init__(self, api: RestApi, lambda_: Lambda, authorizers: Authorizers) -> None:
        self._api = api
        self._lambda = lambda_
        self._authorizers = authorizers
        self._routes = RouteTable(api.routes)
        self._responses = GatewayResponses(api.gateway_responses, api.stage_variables)
        self._stage_variables = dict(api.stage_variables) or None
        self._binary_media_types = frozenset(api.binary_media_types)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        match = self._routes.match(request.method, request.path)
        context = self._request_context(request, match)
        try:
            body = await _read_body(receive)
            status, headers, payload = await self._answer(request, match, context, body)
        except ClientGoneError:
            return
        except GatewayError as error:
            if error.type.status >= 500:
                _LOG.warning("%s %s: %d: %s", request.method, request.path, error.type.status, error)
            rendered = self._responses.render(error, context, request.headers)
            status, headers, payload = rendered.status, rendered.headers, rendered.body
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})

    async def _answer(
        self, request: Request, match: Match | None, context: dict[str, Any], body: bytes
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        if match is None:
            raise GatewayError(MISSING_AUTHENTICATION_TOKEN)
        cors = self._api.cors
        is_preflight = request.method == "OPTIONS" and cors is not None and not _has_own_options(match)
        route = match.route
        if cors is not None and is_preflight:
            authorizer = cors.preflight_authorizer
        elif route is not None:
            authorizer = route.authorizer
        else:
            raise GatewayError(MISSING_AUTHENTICATION_TOKEN)
        event = self._event(request, match, context)
        if authorizer is not None:
            path = request.path.lstrip("/")
            arn = f"arn:aws:execute-api:{REGION}:{ACCOUNT_ID}:{self._api.id}/{self._api.stage}/{request.method}/{path}"
            context["authorizer"] = await self._authorizers.authorize(
                self._api.authorizers[authorizer], request, arn, event
            )
        if cors is not None and is_preflight:
            return 200, _preflight_headers(cors, match.methods, context), _PREFLIGHT_BODY
        if route is None:
            raise GatewayError(MISSING_AUTHENTICATION_TOKEN)
        if route.body_model is not None:
            check_body(route.body_model, request.header("content-type") or "", body)
        event["body"], event["isBase64Encoded"] = self._event_body(request, body)
        response = ProxyResponse(route.function, await self._lambda.call(route.function, event, request.trace_id))
        payload = response.body
        if response.is_base64_encoded and self._wants_binary(request):
            payload = response.decoded_body(route.function)
        return response.status, _response_headers(response.headers, payload, request, context), payload

    def _request_context(self, request: Request, match: Match | None) -> dict[str, Any]:
        resource = match.resource if match else None
        return {
            "resourceId": resource,
            "resourcePath": resource,
            "httpMethod": request.method,
            "extendedRequestId": extended_request_id(),
            "requestTime": clf_time(request.time_ms // 1000),
            "path": request.path,
            "accountId": ACCOUNT_ID,
            "protocol": request.protocol,
            "stage": self._api.stage,
            "domainPrefix": request.domain_name.partition(".")[0],
            "requestTimeEpoch": request.time_ms,
            "requestId": request.request_id,
            "identity": {
                "cognitoIdentityPoolId": None,
                "accountId": None,
                "cognitoIdentityId": None,
                "caller": None,
                "sourceIp": request.source_ip,
                "principalOrgId": None,
                "accessKey": None,
                "cognitoAuthenticationType": None,
                "cognitoAuthenticationProvider": None,
                "userArn": None,
                "userAgent": request.user_agent,
                "user": None,
            },
            "domainName": request.domain_name,
            "deploymentId": "local",
            "apiId": self._api.id,
        }

    def _event(self, request: Request, match: Match, context: dict[str, Any]) -> dict[str, Any]:
        """The event without its body, which authorizers do not get."""
        return {
            "resource": match.resource,
            "path": request.path,
            "httpMethod": request.method,
            "headers": request.headers,
            "multiValueHeaders": request.multi_value_headers,
            "queryStringParameters": request.query,
            "multiValueQueryStringParameters": request.multi_value_query,
            "pathParameters": match.parameters,
            "stageVariables": self._stage_variables,
            "requestContext": context,
        }

    def _event_body(self, request: Request, body: bytes) -> tuple[str | None, bool]:
        if not body:
            return None, False
        content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if content_type not in self._binary_media_types and "*/*" not in self._binary_media_types:
            try:
                return body.decode(), False
            except UnicodeDecodeError:
                pass  # no text at all: API Gateway would mangle it, Base64 keeps it whole
        return base64.b64encode(body).decode(), True

    def _wants_binary(self, request: Request) -> bool:
        """Whether a Base64 body is decoded: only if the first type in `Accept` is one of the binary types.

        https://docs.aws.amazon.com/apigateway/latest/developerguide/lambda-proxy-binary-media.html
        """
        if "*/*" in self._binary_media_types:
            return True
        first = (request.header("accept") or "").partition(",")[0].partition(";")[0].strip().lower()
        return first in self._binary_media_types


async def _read_body(receive: Receive) -> bytes:
    length = 0
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        length += len(chunk)
        if length <= MAXIMUM_PAYLOAD_BYTES:
            chunks.append(chunk)
        if length > _DRAINED_BYTES or (length > MAXIMUM_PAYLOAD_BYTES and not message.get("more_body")):
            raise GatewayError(REQUEST_TOO_LARGE)
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _has_own_options(match: Match) -> bool:
    return match.route is not None and match.route.method == "OPTIONS"


def _preflight_headers(cors: Cors, methods: Iterable[str], context: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """What the mock integration answers that SAM generates of the `Cors` property."""
    headers = {
        "content-type": "application/json",
        "content-length": str(len(_PREFLIGHT_BODY)),
        "x-amzn-requestid": context["requestId"],
        "x-amz-apigw-id": context["extendedRequestId"],
        "access-control-allow-origin": ",".join(cors.allow_origins),
        "access-control-allow-methods": ",".join(cors.allow_methods or methods),
    }
    if cors.allow_headers:
        headers["access-control-allow-headers"] = ",".join(cors.allow_headers)
    if cors.max_age_seconds is not None:
        headers["access-control-max-age"] = str(cors.max_age_seconds)
    if cors.allow_credentials:
        headers["access-control-allow-credentials"] = "true"
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def _response_headers(
    headers: list[tuple[bytes, bytes]], payload: bytes, request: Request, context: dict[str, Any]
) -> list[tuple[bytes, bytes]]:
    if not any(name == b"content-type" for name, _ in headers):
        headers.append((b"content-type", b"application/json"))
    headers += (
        (b"content-length", str(len(payload)).encode()),
        (b"x-amzn-requestid", context["requestId"].encode()),
        (b"x-amz-apigw-id", context["extendedRequestId"].encode()),
        (b"x-amzn-trace-id", request.trace_id.encode("latin-1")),
    )
    return headers
