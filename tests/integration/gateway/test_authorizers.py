"""Lambda authorizers: what they are asked, what their policies allow, and how long that is remembered."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import Served

DENIED = {"Message": "User is not authorized to access this resource with an explicit deny"}
IMPLICITLY_DENIED = {"Message": "User is not authorized to access this resource"}


def get(served: Served, path: str, token: str, method: str = "GET") -> httpx.Response:
    return served.http.request(method, path, headers={"Authorization": token, "X-Token": token})


def seen_by_authorizer(response: httpx.Response) -> dict[str, Any]:
    return json.loads(response.json()["requestContext"]["authorizer"]["event"])


class TestTokenAuthorizer:
    def test_the_function_gets_the_token_and_the_method_arn(self, plain: Served) -> None:
        assert seen_by_authorizer(get(plain, "/token?x=1", "token-ada")) == {
            "type": "TOKEN",
            "methodArn": "arn:aws:execute-api:us-east-1:000000000000:api/test/GET/token",
            "authorizationToken": "token-ada",
        }

    def test_its_context_reaches_the_function_as_strings(self, plain: Served) -> None:
        authorizer = get(plain, "/token", "token-ada").json()["requestContext"]["authorizer"]

        assert (authorizer["principalId"], authorizer["name"]) == ("ada", "ada")
        assert (authorizer["admin"], authorizer["level"]) == ("true", "3")
        assert isinstance(authorizer["integrationLatency"], int)

    @pytest.mark.parametrize("token", [None, "", "does not match", "token-expired"])
    def test_without_an_acceptable_token_it_is_a_401(self, plain: Served, token: str | None) -> None:
        response = plain.http.get("/token", headers={} if token is None else {"X-Token": token})

        assert (response.status_code, response.json()) == (401, {"message": "Unauthorized"})
        assert response.headers["x-amzn-errortype"] == "UnauthorizedException"

    def test_a_deny_is_a_403(self, plain: Served) -> None:
        response = get(plain, "/token", "token-intruder")

        assert (response.status_code, response.json()) == (403, DENIED)
        assert response.headers["x-amzn-errortype"] == "AccessDeniedException"


class TestRequestAuthorizer:
    def test_the_function_gets_the_request_without_its_body(self, plain: Served) -> None:
        response = plain.http.post("/private/7?x=1", content="body", headers={"Authorization": f"user-{uuid.uuid4()}"})
        event = seen_by_authorizer(response)

        assert event["type"] == "REQUEST"
        assert event["methodArn"] == "arn:aws:execute-api:us-east-1:000000000000:api/test/POST/private/7"
        assert (event["resource"], event["path"], event["httpMethod"]) == ("/private/{item_id}", "/private/7", "POST")
        assert event["pathParameters"] == {"item_id": "7"}
        assert event["queryStringParameters"] == {"x": "1"}
        assert event["requestContext"]["identity"]["sourceIp"] == "127.0.0.1"
        assert not {"body", "isBase64Encoded"} & set(event)
        assert "authorizer" not in event["requestContext"]

    def test_a_missing_identity_source_is_a_401_without_a_call(self, plain: Served) -> None:
        response = plain.http.get("/private")
        assert (response.status_code, response.json()) == (401, {"message": "Unauthorized"})

    @pytest.mark.parametrize(
        ("token", "status", "body"),
        [
            ("deny", 403, DENIED),
            ("elsewhere", 403, IMPLICITLY_DENIED),
            ("unauthorized", 401, {"message": "Unauthorized"}),
            ("raise", 500, {"message": None}),
            ("nonsense", 500, {"message": None}),
            ("nested-context", 500, {"message": None}),
            ("hang", 500, {"message": None}),
        ],
    )
    def test_its_outcome_decides_the_answer(self, plain: Served, token: str, status: int, body: object) -> None:
        response = get(plain, "/private", token)

        assert (response.status_code, response.json()) == (status, body)

    def test_a_broken_authorizer_is_named_in_the_error_type(self, plain: Served) -> None:
        headers = get(plain, "/private", "nonsense").headers
        assert headers["x-amzn-errortype"] == "AuthorizerConfigurationException"

    def test_the_cached_policy_decides_about_each_method(self, plain: Served) -> None:
        assert get(plain, "/private", "wildcard").status_code == 200
        assert get(plain, "/private/7", "wildcard").status_code == 200
        assert get(plain, "/private/7", "wildcard", "DELETE").status_code == 403


class TestCache:
    def test_one_identity_is_asked_about_once(self, plain: Served) -> None:
        token = f"user-{uuid.uuid4()}"
        calls = {get(plain, "/private", token).json()["requestContext"]["authorizer"]["call"] for _ in range(3)}
        assert len(calls) == 1

    def test_another_identity_is_asked_about_again(self, plain: Served) -> None:
        calls = {
            get(plain, "/private", f"user-{uuid.uuid4()}").json()["requestContext"]["authorizer"]["call"]
            for _ in range(2)
        }
        assert len(calls) == 2

    def test_a_ttl_of_zero_asks_every_time(self, plain: Served) -> None:
        requests = {
            seen_by_authorizer(get(plain, path, "token-ada"))["methodArn"] for path in ("/token", "/token", "/token/")
        }
        assert len(requests) == 2

    def test_a_changed_template_empties_the_cache(self, plain: Served, plain_application: Any) -> None:
        token = f"user-{uuid.uuid4()}"
        before = get(plain, "/private", token).json()["requestContext"]["authorizer"]["call"]

        plain.gateway.update(plain_application)

        assert get(plain, "/private", token).json()["requestContext"]["authorizer"]["call"] != before
