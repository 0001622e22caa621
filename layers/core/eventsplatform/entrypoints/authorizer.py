"""Lambda authorizers (REQUEST) for the REST and the WebSocket API."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from eventsplatform.config import read_setting
from eventsplatform.entrypoints.failures import failing_without_secrets
from eventsplatform.errors import ForbiddenError, UnauthenticatedError
from eventsplatform.identity.caller import Caller
from eventsplatform.observability import begin_invocation, header, logger

_TOKEN_PARAMETERS = {"token", "access_token", "authorization", "jwt"}
_TOKEN = re.compile(r"eyJ[\w-]+\.eyJ")


class Unauthorized(Exception):
    """API Gateway turns an error whose message is exactly `Unauthorized` into a 401."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


def authorizer(authenticate: Callable[[dict[str, Any]], Caller]) -> Any:
    """Make a Lambda handler of `authenticate(event) -> Caller`, which raises UnauthenticatedError or ForbiddenError.

    The policy covers the whole stage, not the one method asked for: API Gateway caches it per token, and
    a policy for one method would refuse the next. What a caller may do is decided at each endpoint.
    """

    @failing_without_secrets
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        begin_invocation(
            traceparent=header(event.get("headers"), "traceparent"), function_request_id=context.aws_request_id
        )
        try:
            caller = authenticate(event)
        except UnauthenticatedError as error:
            logger.info("refused", extra={"reason": error.detail})
            raise Unauthorized from None
        except ForbiddenError as error:
            logger.info("refused", extra={"reason": error.detail})
            return _policy("nobody", "Deny", event)
        return {**_policy(str(caller.user_id), "Allow", event), "context": caller.as_context()}

    return handler


def handshake_authorizer(by_header: Callable[[str], Caller], by_ticket: Callable[[str], Caller]) -> Any:
    """Make a Lambda handler for `$connect`: an `Authorization` header or, from browsers, `?ticket=`.

    It has no identity source, for API Gateway wants all of those that are listed and here it is one or the other;
    answers of WebSocket authorizers are not cached. A browser says which page connects, and only pages of the
    configured origin or of this host may: a WebSocket is bound by no same-origin policy (RFC 6455 §10.2).
    """

    def authenticate(event: dict[str, Any]) -> Caller:
        query = event.get("queryStringParameters") or {}
        _check_origin(event.get("headers"))
        if any(name.lower() in _TOKEN_PARAMETERS or _is_token(value) for name, value in query.items()):
            raise UnauthenticatedError("A token must not stand in a URL; send it as a header or get a ticket.")
        authorization, ticket = header(event.get("headers"), "authorization"), query.get("ticket")
        if authorization is not None and ticket is not None:
            raise UnauthenticatedError("Send an access token or a ticket, not both.")
        return by_ticket(ticket) if ticket is not None else by_header(authorization or "")

    return authorizer(authenticate)


def _check_origin(headers: Mapping[str, str] | None) -> None:
    """Raises ForbiddenError for a page of somewhere else. What is no browser sends no `Origin`."""
    origin = header(headers, "origin")
    if origin is None or origin == read_setting("CORS_ORIGIN", str, default=""):
        return
    if urlsplit(origin).netloc != header(headers, "host"):
        raise ForbiddenError(f"Pages of {origin[:100]!r} may not connect.")


def _is_token(value: str) -> bool:
    """Whether it looks like a JWT: a JSON object in base64url, a dot, another."""
    return _TOKEN.match(value) is not None


def _policy(principal: str, effect: str, event: dict[str, Any]) -> dict[str, Any]:
    resource = _whole_stage(event["methodArn"])
    return {
        "principalId": principal,
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}],
        },
    }


def _whole_stage(method_arn: str) -> str:
    """`arn:aws:execute-api:region:account:api/stage/GET/v1/…` → `…:api/stage/*`."""
    api, stage, *_ = method_arn.split("/")
    return f"{api}/{stage}/*"
