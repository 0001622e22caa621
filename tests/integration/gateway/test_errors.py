"""How the template's gateway responses word API Gateway's errors."""

from __future__ import annotations

import pytest

from local.application import GatewayResponse
from local.gateway.errors import (
    ACCESS_DENIED,
    AUTHORIZER_FAILURE,
    BAD_FUNCTION_RESPONSE,
    INTEGRATION_TIMEOUT,
    UNAUTHORIZED,
    GatewayError,
    GatewayResponses,
    Rendered,
    ResponseType,
)

CONTEXT = {
    "requestId": "r-1",
    "extendedRequestId": "e-1",
    "path": "/a",
    "identity": {"sourceIp": "127.0.0.1"},
    "authorizer": {"principalId": "ada"},
}


def render(type_: ResponseType, headers: dict[str, str] | None = None, **declared: GatewayResponse) -> Rendered:
    return GatewayResponses(declared, {"colour": "green"}).render(GatewayError(type_), CONTEXT, headers or {})


def header(rendered: Rendered, name: str) -> str | None:
    return dict(rendered.headers).get(name.encode(), b"").decode() or None


def test_undeclared_errors_have_api_gateways_body_and_headers() -> None:
    rendered = render(ACCESS_DENIED)

    assert (rendered.status, rendered.body) == (403, b'{"Message":"User is not authorized to access this resource"}')
    assert dict(rendered.headers) == {
        b"content-type": b"application/json",
        b"content-length": str(len(rendered.body)).encode(),
        b"x-amzn-requestid": b"r-1",
        b"x-amzn-errortype": b"AccessDeniedException",
        b"x-amz-apigw-id": b"e-1",
    }


@pytest.mark.parametrize(
    ("template", "body"),
    [
        ("$context.error.message", "Unauthorized"),
        ("$context.error.messageString", '"Unauthorized"'),
        ("$context.error.responseType", "UNAUTHORIZED"),
        ("$context.requestId.", "r-1."),
        ("$context.identity.sourceIp", "127.0.0.1"),
        ("$context.authorizer.principalId", "ada"),
        ("$context.nothing.here", ""),
        ("$stageVariables.colour", "green"),
        ("costs $5", "costs $5"),
    ],
)
def test_variables_of_a_template_are_filled_in(template: str, body: str) -> None:
    rendered = render(UNAUTHORIZED, UNAUTHORIZED=GatewayResponse(templates={"text/plain": template}))
    assert rendered.body.decode() == body


def test_an_error_without_a_message_is_null() -> None:
    response = GatewayResponse(templates={"application/json": "[$context.error.messageString]"})
    assert render(AUTHORIZER_FAILURE, AUTHORIZER_FAILURE=response).body == b"[null]"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("", "a/first"), ("*/*", "a/first"), ("b/second;q=0.5, a/first", "b/second"), ("c/third", "a/first")],
)
def test_the_template_is_the_clients_choice_or_the_first(accept: str, content_type: str) -> None:
    response = GatewayResponse(templates={"a/first": "1", "b/second": "2"})
    assert header(render(UNAUTHORIZED, {"Accept": accept}, UNAUTHORIZED=response), "content-type") == content_type


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'static'", "static"),
        ("'default-src 'none'; frame-ancestors 'none''", "default-src 'none'; frame-ancestors 'none'"),
        ("context.requestId", "r-1"),
        ("method.request.header.x-colour", "red"),
        ("method.request.header.absent", None),
        ("stageVariables.colour", "green"),
    ],
)
def test_headers_are_mapped(expression: str, value: str | None) -> None:
    rendered = render(UNAUTHORIZED, {"X-Colour": "red"}, UNAUTHORIZED=GatewayResponse(headers={"X-It": expression}))
    assert header(rendered, "x-it") == value


def test_a_declared_content_type_wins() -> None:
    response = GatewayResponse(headers={"Content-Type": "'application/problem+json'"})
    assert header(render(UNAUTHORIZED, UNAUTHORIZED=response), "content-type") == "application/problem+json"


def test_the_own_type_wins_over_the_default_of_its_class() -> None:
    declared = {
        "UNAUTHORIZED": GatewayResponse(status_code=418),
        "DEFAULT_4XX": GatewayResponse(status_code=400),
        "DEFAULT_5XX": GatewayResponse(headers={"X-It": "'5'"}),
    }

    assert render(UNAUTHORIZED, **declared).status == 418
    assert render(ACCESS_DENIED, **declared).status == 400
    assert render(INTEGRATION_TIMEOUT, **declared).status == 504
    assert header(render(BAD_FUNCTION_RESPONSE, **declared), "x-it") == "5"
