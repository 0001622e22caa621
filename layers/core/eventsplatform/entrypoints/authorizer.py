"""Lambda authorizers (REQUEST) for the REST and the WebSocket API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.entrypoints.failures import failing_without_secrets
from eventsplatform.errors import UnauthenticatedError
from eventsplatform.identity.caller import Caller
from eventsplatform.observability import begin_invocation, header, logger


class Unauthorized(Exception):
    """API Gateway turns an error whose message is exactly `Unauthorized` into a 401."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


def authorizer(authenticate: Callable[[dict[str, Any]], Caller]) -> Any:
    """Make a Lambda handler of `authenticate(event) -> Caller`, which raises UnauthenticatedError.

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
        return {
            "principalId": str(caller.user_id),
            "policyDocument": {
                "Version": "2012-10-17",
                "Statement": [
                    {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": _whole_stage(event["methodArn"])}
                ],
            },
            "context": caller.as_context(),
        }

    return handler


def _whole_stage(method_arn: str) -> str:
    """`arn:aws:execute-api:region:account:api/stage/GET/v1/…` → `…:api/stage/*`."""
    api, stage, *_ = method_arn.split("/")
    return f"{api}/{stage}/*"
