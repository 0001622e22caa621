"""API Gateway's own answers: their types, default bodies, and the template's `GatewayResponses`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from local.application import GatewayResponse


@dataclass(frozen=True)
class ResponseType:
    """A gateway response type with the status and `x-amzn-ErrorType` it has by default.

    `message_key`: the one default body that is spelled `Message` is ACCESS_DENIED's.
    """

    name: str
    status: int
    error_type: str
    message: str | None
    message_key: str = "message"


# https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
ACCESS_DENIED = ResponseType(
    "ACCESS_DENIED",
    403,
    "AccessDeniedException",
    "User is not authorized to access this resource",
    message_key="Message",
)
AUTHORIZER_CONFIGURATION_ERROR = ResponseType(
    "AUTHORIZER_CONFIGURATION_ERROR", 500, "AuthorizerConfigurationException", None
)
AUTHORIZER_FAILURE = ResponseType("AUTHORIZER_FAILURE", 500, "AuthorizerFailureException", None)
BAD_REQUEST_BODY = ResponseType("BAD_REQUEST_BODY", 400, "BadRequestException", "Invalid request body")
INTEGRATION_TIMEOUT = ResponseType(
    "INTEGRATION_TIMEOUT", 504, "InternalServerErrorException", "Endpoint request timed out"
)
MISSING_AUTHENTICATION_TOKEN = ResponseType(
    "MISSING_AUTHENTICATION_TOKEN", 403, "MissingAuthenticationTokenException", "Missing Authentication Token"
)
REQUEST_TOO_LARGE = ResponseType("REQUEST_TOO_LARGE", 413, "RequestTooLargeException", "Request Too Long")
UNAUTHORIZED = ResponseType("UNAUTHORIZED", 401, "UnauthorizedException", "Unauthorized")

# A function that failed or answered nonsense (502) and an invocation that Lambda refused (500) have no
# type of their own; DEFAULT_5XX words them. https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway-errors.html
BAD_FUNCTION_RESPONSE = ResponseType("DEFAULT_5XX", 502, "InternalServerErrorException", "Internal server error")
INVOCATION_REFUSED = ResponseType("DEFAULT_5XX", 500, "InternalServerErrorException", "Internal server error")

_CONTEXT_VARIABLE = re.compile(r"\$(context|stageVariables)\.([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)")


class GatewayError(Exception):
    """The request ends in an answer of API Gateway's own.

    `reason` is for the log, `validation` says what a route's model has against the body.
    """

    def __init__(
        self, type_: ResponseType, message: str | None = None, *, reason: str = "", validation: str = ""
    ) -> None:
        super().__init__(reason or message or type_.message or type_.name)
        self.type = type_
        self.message = message if message is not None else type_.message
        self.validation = validation


@dataclass(frozen=True)
class Rendered:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class GatewayResponses:
    """Words errors as the template says, or as API Gateway does when it says nothing."""

    def __init__(self, declared: Mapping[str, GatewayResponse], stage_variables: Mapping[str, str]) -> None:
        self._declared = declared
        self._stage_variables = stage_variables

    def render(self, error: GatewayError, context: Mapping[str, Any], headers: Mapping[str, str]) -> Rendered:
        """The answer to `error` for a request with this `requestContext` and these headers."""
        declared = self._find(error.type)
        message = orjson.dumps(error.message).decode()
        variables = {
            **context,
            "error": {
                "message": error.message,
                "messageString": message,
                "responseType": error.type.name,
                # Escaped, and unlike messageString without the quotes.
                "validationErrorString": orjson.dumps(error.validation).decode()[1:-1],
            },
        }
        content_type, template = _choose_template(declared.templates, headers.get("Accept", ""))
        if template is None:
            body = f'{{"{error.type.message_key}":{message}}}'
        else:
            body = _CONTEXT_VARIABLE.sub(lambda match: self._value(match[1], match[2], variables), template)
        answer = {
            "content-type": content_type,
            "x-amzn-requestid": str(context.get("requestId", "")),
            "x-amzn-errortype": error.type.error_type,
            "x-amz-apigw-id": str(context.get("extendedRequestId", "")),
        }
        for name, expression in declared.headers.items():
            answer[name.lower()] = self._header(expression, variables, headers)
        payload = body.encode()
        answer["content-length"] = str(len(payload))
        return Rendered(
            declared.status_code or error.type.status,
            [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in answer.items()],
            payload,
        )

    def _find(self, type_: ResponseType) -> GatewayResponse:
        default = "DEFAULT_4XX" if type_.status < 500 else "DEFAULT_5XX"
        return self._declared.get(type_.name) or self._declared.get(default) or GatewayResponse()

    def _header(self, expression: str, variables: Mapping[str, Any], headers: Mapping[str, str]) -> str:
        if expression.startswith("'"):
            return expression[1:-1]  # those within are the value's
        source, _, name = expression.partition(".")
        if expression.startswith("method.request.header."):
            wanted = expression.removeprefix("method.request.header.").lower()
            return next((value for header, value in headers.items() if header.lower() == wanted), "")
        return self._value(source, name, variables)

    def _value(self, source: str, name: str, variables: Mapping[str, Any]) -> str:
        value: Any = self._stage_variables if source == "stageVariables" else variables
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return "" if value is None else str(value)


def _choose_template(templates: Mapping[str, str], accept: str) -> tuple[str, str | None]:
    """The first template that the client names in `Accept`, or else the first there is."""
    if not templates:
        return "application/json", None
    for media_range in accept.split(","):
        content_type = media_range.partition(";")[0].strip()
        if content_type in templates:
            return content_type, templates[content_type]
    return next(iter(templates.items()))
