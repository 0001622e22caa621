"""REST: requests become proxy events, results become responses, failures get API Gateway's answers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import pytest
from samcli.lib.generated_sample_events.events import Events

from tests.integration.gateway.conftest import Served

# The keys of API Gateway's proxy event (version 1.0), from
# https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
# and `sam local generate-event apigateway aws-proxy`.
EVENT_KEYS = {
    "resource",
    "path",
    "httpMethod",
    "headers",
    "multiValueHeaders",
    "queryStringParameters",
    "multiValueQueryStringParameters",
    "pathParameters",
    "stageVariables",
    "requestContext",
    "body",
    "isBase64Encoded",
}
CONTEXT_KEYS = {
    "resourceId",
    "resourcePath",
    "httpMethod",
    "extendedRequestId",
    "requestTime",
    "path",
    "accountId",
    "protocol",
    "stage",
    "domainPrefix",
    "requestTimeEpoch",
    "requestId",
    "identity",
    "domainName",
    "deploymentId",
    "apiId",
}
IDENTITY_KEYS = {
    "cognitoIdentityPoolId",
    "accountId",
    "cognitoIdentityId",
    "caller",
    "sourceIp",
    "principalOrgId",
    "accessKey",
    "cognitoAuthenticationType",
    "cognitoAuthenticationProvider",
    "userArn",
    "userAgent",
    "user",
}


def reply(response: dict[str, Any]) -> dict[str, str]:
    """Headers that make EchoFunction return this."""
    return {"X-Reply": json.dumps(response)}


class TestEvents:
    def test_a_bare_request_has_every_field_and_null_for_what_is_absent(self, served: Served) -> None:
        event = served.http.get("/public").json()

        assert set(event) == EVENT_KEYS
        assert set(event["requestContext"]) == CONTEXT_KEYS
        assert set(event["requestContext"]["identity"]) == IDENTITY_KEYS
        assert (event["resource"], event["path"], event["httpMethod"]) == ("/public", "/public", "GET")
        for absent in ("queryStringParameters", "multiValueQueryStringParameters", "pathParameters", "body"):
            assert event[absent] is None
        assert event["isBase64Encoded"] is False
        assert event["stageVariables"] == {"colour": "green"}

    def test_the_event_has_what_sams_sample_event_has(self, served: Served) -> None:
        events = Events()
        tags = events.event_mapping["apigateway"]["aws-proxy"]["tags"]
        defaults = {name: tag.get("default") for name, tag in tags.items()}
        sample = json.loads(events.generate_event("apigateway", "aws-proxy", defaults))

        event = served.http.post("/files/x?a=1", content="body").json()

        assert set(sample) == set(event)
        assert set(sample["requestContext"]) <= set(event["requestContext"])
        assert set(sample["requestContext"]["identity"]) <= set(event["requestContext"]["identity"])
        assert {key: type(value) for key, value in event.items()} == {key: type(sample[key]) for key in event}

    def test_the_request_context_describes_the_request(self, served: Served) -> None:
        response = served.http.get("/items/7?x=1", headers={"User-Agent": "test/1.0"})
        context = response.json()["requestContext"]

        assert context["resourcePath"] == "/items/{item_id}"
        assert (context["path"], context["httpMethod"], context["stage"]) == ("/items/7", "GET", "test")
        assert (context["accountId"], context["apiId"]) == ("000000000000", "api")
        assert context["identity"]["sourceIp"] == "127.0.0.1"
        assert context["identity"]["userAgent"] == "test/1.0"
        assert context["domainName"] == f"127.0.0.1:{served.port}"
        assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["requestTime"])
        assert response.headers["x-amzn-RequestId"] == context["requestId"]
        assert response.headers["x-amz-apigw-id"] == context["extendedRequestId"]

    def test_headers_and_query_come_single_and_multi_valued(self, served: Served) -> None:
        headers = [("X-Colour", "red"), ("X-Colour", "blue"), ("traceparent", "00-aa-bb-01"), ("Accept", "*/*")]

        event = served.http.get("/public?a=1&a=2&b=%C3%A9+%26&empty=", headers=headers).json()

        assert event["headers"]["X-Colour"] == "blue"
        assert event["multiValueHeaders"]["X-Colour"] == ["red", "blue"]
        assert event["headers"]["traceparent"] == "00-aa-bb-01"
        assert event["queryStringParameters"] == {"a": "2", "b": "é &", "empty": ""}
        assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": ["é &"], "empty": [""]}

    def test_forwarding_headers_are_added_and_connection_headers_removed(self, served: Served) -> None:
        headers = {"X-Forwarded-For": "203.0.113.9", "TE": "trailers", "Connection": "keep-alive"}

        response = served.http.post("/public", content="x", headers=headers)
        event = response.json()

        assert event["headers"]["X-Forwarded-For"] == "203.0.113.9, 127.0.0.1"
        assert event["headers"]["X-Forwarded-Proto"] == "http"
        assert event["headers"]["X-Forwarded-Port"] == str(served.port)
        assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", event["headers"]["X-Amzn-Trace-Id"])
        assert response.headers["X-Amzn-Trace-Id"] == event["headers"]["X-Amzn-Trace-Id"]
        assert not {"Te", "Connection", "Content-Length", "Transfer-Encoding"} & set(event["headers"])

    def test_a_trace_that_the_client_began_is_continued(self, served: Served) -> None:
        trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"

        event = served.http.get("/public", headers={"X-Amzn-Trace-Id": trace}).json()

        assert event["headers"]["X-Amzn-Trace-Id"] == trace

    @pytest.mark.parametrize(
        ("path", "resource", "parameters"),
        [
            ("/items/7", "/items/{item_id}", {"item_id": "7"}),
            ("/items/7/", "/items/{item_id}", {"item_id": "7"}),
            ("/items/a%2Fb%20%C3%A9", "/items/{item_id}", {"item_id": "a/b é"}),
            ("/items/7/parts/9", "/items/{item_id}/parts/{part_id}", {"item_id": "7", "part_id": "9"}),
            ("/files/a", "/files/{proxy+}", {"proxy": "a"}),
            ("/files/a/b%20c/d", "/files/{proxy+}", {"proxy": "a/b c/d"}),
        ],
    )
    def test_path_parameters_are_decoded(
        self, served: Served, path: str, resource: str, parameters: dict[str, str]
    ) -> None:
        event = served.http.get(path).json()

        assert event["resource"] == resource
        assert event["pathParameters"] == parameters

    def test_a_literal_path_wins_over_a_parameter(self, served: Served) -> None:
        assert served.http.get("/items/search").text == "Hello layer"

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
    def test_any_serves_every_method(self, served: Served, method: str) -> None:
        assert served.http.request(method, "/files/x").json()["httpMethod"] == method

    @pytest.mark.parametrize("body", ['{"name": "Ada"}', "{malformed", "grüße", "\x00"])
    def test_a_text_body_is_passed_on_as_it_is(self, served: Served, body: str) -> None:
        event = served.http.post("/public", content=body, headers={"Content-Type": "application/json"}).json()

        assert event["body"] == body
        assert event["isBase64Encoded"] is False

    @pytest.mark.parametrize(
        ("body", "content_type"), [(b"\xff\x00\xfe", "application/octet-stream"), (b"plain ascii", "image/png")]
    )
    def test_binary_bodies_and_binary_media_types_are_base64(
        self, served: Served, body: bytes, content_type: str
    ) -> None:
        event = served.http.post("/public", content=body, headers={"Content-Type": content_type}).json()

        assert event["isBase64Encoded"] is True
        assert base64.b64decode(event["body"]) == body

    def test_a_chunked_body_is_put_together(self, served: Served) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"one "
            yield b"two"

        assert served.http.post("/public", content=chunks()).json()["body"] == "one two"

    def test_a_function_gets_its_templates_environment(self, served: Served) -> None:
        environment = served.http.get("/public?environment").json()

        assert environment["DATABASE_URL"] == "postgresql://127.0.0.1/app"
        assert environment["STAGE"] == "test"


class TestResponses:
    def test_status_headers_and_body_are_the_functions(self, served: Served) -> None:
        answer = {
            "statusCode": "201",
            "headers": {"Content-Type": "text/plain", "X-One": "1", "X-Flag": True},
            "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]},
            "body": "created é",
        }

        response = served.http.get("/public", headers=reply(answer))

        assert (response.status_code, response.text) == (201, "created é")
        assert response.headers["content-type"] == "text/plain"
        assert (response.headers["x-one"], response.headers["x-flag"]) == ("1", "true")
        assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]

    def test_every_field_may_be_missing(self, served: Served) -> None:
        response = served.http.get("/public", headers=reply({}))

        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"] == "application/json"

    def test_multi_value_headers_win_over_single_ones(self, served: Served) -> None:
        answer = {"headers": {"x-a": "single"}, "multiValueHeaders": {"X-A": ["first", "second"]}}

        assert served.http.get("/public", headers=reply(answer)).headers.get_list("x-a") == ["first", "second"]

    def test_headers_that_the_gateway_owns_are_remapped(self, served: Served) -> None:
        answer = {"headers": {"WWW-Authenticate": "Bearer", "Content-Length": "9999", "Transfer-Encoding": "chunked"}}

        headers = served.http.get("/public", headers=reply(answer)).headers

        assert headers["x-amzn-remapped-www-authenticate"] == "Bearer"
        assert headers["x-amzn-remapped-content-length"] == "9999"
        assert "www-authenticate" not in headers
        assert "transfer-encoding" not in headers

    def test_base64_is_decoded_only_for_an_accepted_binary_type(self, served: Served) -> None:
        encoded = base64.b64encode(b"\x89PNG").decode()
        answer = {"headers": {"Content-Type": "image/png"}, "body": encoded, "isBase64Encoded": True}

        accepted = served.http.get("/public", headers={**reply(answer), "Accept": "image/png, */*"})
        not_asked = served.http.get("/public", headers={**reply(answer), "Accept": "*/*"})

        assert accepted.content == b"\x89PNG"
        assert not_asked.text == encoded

    def test_head_has_no_body(self, served: Served) -> None:
        response = served.http.head("/files/x")
        assert (response.status_code, response.content) == (200, b"")


BAD_GATEWAY = {"message": "Internal server error"}


class TestFailures:
    @pytest.mark.parametrize(
        "how",
        [
            "raise",
            "hang",
            "crash",
            "string",
            "list",
            "nothing",
            "status",
            "body",
            "headers",
            "unknown-key",
            "large",
            "set",
        ],
    )
    def test_a_function_that_misbehaves_is_a_502_and_the_next_request_is_served(self, plain: Served, how: str) -> None:
        response = plain.http.get(f"/misbehave/{how}")

        assert (response.status_code, response.json()) == (502, BAD_GATEWAY)
        assert response.headers["x-amzn-errortype"] == "InternalServerErrorException"
        assert response.headers["x-amzn-requestid"]
        assert plain.http.get("/public").status_code == 200

    def test_base64_that_is_none_is_a_502(self, plain: Served) -> None:
        response = plain.http.get("/misbehave/base64", headers={"Accept": "image/png"})
        assert (response.status_code, response.json()) == (502, BAD_GATEWAY)

    @pytest.mark.parametrize(
        "answer",
        [
            {"statusCode": 99},
            {"statusCode": 1000},
            {"statusCode": True},
            {"statusCode": 200, "headers": {"X-Number": 5}},
            {"statusCode": 200, "headers": {"X-Break": "a\r\nSet-Cookie: stolen=1"}},
            {"statusCode": 200, "headers": {"X Space": "a"}},
            {"statusCode": 200, "multiValueHeaders": {"X-A": "not a list"}},
        ],
        ids=str,
    )
    def test_a_malformed_response_is_a_502(self, plain: Served, answer: dict[str, Any]) -> None:
        response = plain.http.get("/public", headers=reply(answer))

        assert (response.status_code, response.json()) == (502, BAD_GATEWAY)
        assert "set-cookie" not in response.headers

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/"), ("GET", "/nowhere"), ("DELETE", "/public"), ("POST", "/items/search"), ("GET", "/files")],
    )
    def test_an_unknown_route_is_a_403(self, plain: Served, method: str, path: str) -> None:
        response = plain.http.request(method, path)

        assert (response.status_code, response.json()) == (403, {"message": "Missing Authentication Token"})
        assert response.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"

    def test_a_body_over_10_mb_is_a_413(self, plain: Served) -> None:
        response = plain.http.post("/public", content=b"x" * (10 * 1024 * 1024 + 1))

        assert (response.status_code, response.json()) == (413, {"message": "Request Too Long"})
        assert response.headers["x-amzn-errortype"] == "RequestTooLargeException"

    def test_an_event_over_lambdas_6_mb_is_a_413(self, plain: Served) -> None:
        response = plain.http.post("/public", content=b"x" * (7 * 1024 * 1024))
        assert (response.status_code, response.json()) == (413, {"message": "Request Too Long"})

    def test_an_integration_that_takes_too_long_is_a_504(self, impatient: Served) -> None:
        response = impatient.http.get("/misbehave/hang")

        assert (response.status_code, response.json()) == (504, {"message": "Endpoint request timed out"})

    def test_a_client_that_leaves_in_the_middle_hurts_nobody(self, plain: Served) -> None:
        def broken_body() -> Iterator[bytes]:
            yield b"first half"
            raise ConnectionAbortedError

        with pytest.raises(ConnectionAbortedError):
            httpx.post(f"{plain.url}/public", content=broken_body())

        assert plain.http.get("/public").status_code == 200


class TestGatewayResponses:
    def test_a_declared_response_has_its_status_headers_and_template(self, served: Served) -> None:
        response = served.http.get("/nowhere")

        request_id = response.headers["x-amzn-requestid"]
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["x-request-id"] == request_id
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.json() == {"type": "about:blank", "title": "Not Found", "status": 404, "request_id": request_id}

    def test_default_4xx_words_the_rest_and_keeps_their_status(self, served: Served) -> None:
        response = served.http.get("/private")

        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert (problem["title"], problem["detail"]) == ("UNAUTHORIZED", "Unauthorized")
        assert problem["instance"] == "/private"

    def test_what_is_not_declared_keeps_api_gateways_words(self, served: Served) -> None:
        response = served.http.get("/misbehave/raise")
        assert (response.status_code, response.json()) == (502, BAD_GATEWAY)


class TestCors:
    @pytest.mark.parametrize("path", ["/public", "/items/7", "/files/x", "/private"])
    def test_a_preflight_is_answered_without_a_function(self, served: Served, path: str) -> None:
        response = served.http.options(path, headers={"Origin": "https://example.org"})

        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "https://example.org"
        assert response.headers["access-control-allow-methods"] == "GET,POST,OPTIONS"
        assert response.headers["access-control-allow-headers"] == "Authorization,Content-Type"
        assert response.headers["access-control-max-age"] == "600"

    def test_a_preflight_of_no_route_is_unknown(self, plain: Served) -> None:
        assert plain.http.options("/nowhere").status_code == 403


class TestExtras:
    def test_a_page_is_that_path_alone(self, served: Served) -> None:
        assert served.http.get("/hello").text == " /hello"
        assert served.http.get("/hello/there").status_code == 404

    def test_a_tree_is_everything_below_and_its_bare_name_redirects(self, served: Served) -> None:
        assert served.http.get("/tree/of/life").text == "/tree /tree/of/life"
        redirect = served.http.get("/tree?x=1")
        assert (redirect.status_code, redirect.headers["location"]) == (307, "/tree/?x=1")


class TestBodiesThatAModelIsFor:
    ITEM: ClassVar[dict[str, Any]] = {"name": "a chair", "size": 3}

    @pytest.mark.parametrize(
        "item",
        [ITEM, {**ITEM, "colour": "red"}, {**ITEM, "maker": {"name": None}}, {**ITEM, "name": ""}],
        ids=["as the model has it", "more than it names", "nested", "empty"],
    )
    def test_one_that_has_its_form_reaches_the_function(self, served: Served, item: dict[str, Any]) -> None:
        answer = served.http.post("/items", json=item)

        assert answer.status_code == 200
        assert json.loads(answer.json()["body"]) == item

    @pytest.mark.parametrize(
        ("content", "detail"),
        [
            (b'{"size": 3}', '[object has missing required properties (["name"])]'),
            (b"", '[object has missing required properties (["name","size"])]'),
            (
                b'{"name": true, "size": 1.5}',
                '[instance type (boolean) does not match any allowed primitive type (allowed: ["string"]), '
                'instance type (number) does not match any allowed primitive type (allowed: ["integer"])]',
            ),
            (b"[]", '[instance type (array) does not match any allowed primitive type (allowed: ["object"])]'),
            (
                b'{"name": "a", "size": 1, "maker": {"name": 7}}',
                '[instance type (integer) does not match any allowed primitive type (allowed: ["null","string"])]',
            ),
            (b'{"name": ', "the body is not JSON"),
            (b"\xff", "the body is not JSON"),
        ],
    )
    def test_any_other_is_answered_by_the_gateway(self, served: Served, content: bytes, detail: str) -> None:
        answer = served.http.post("/items", content=content, headers={"Content-Type": "application/json"})

        assert answer.status_code == 400
        assert answer.headers["x-amzn-ErrorType"] == "BadRequestException"
        assert answer.json() == {"message": "Invalid request body", "detail": detail}

    def test_one_of_another_type_is_left_to_the_function(self, served: Served) -> None:
        """API Gateway has no model for it, and passes on what it has none for."""
        answer = served.http.post("/items", content="<item/>", headers={"Content-Type": "application/xml"})

        assert answer.status_code == 200
        assert answer.json()["body"] == "<item/>"
