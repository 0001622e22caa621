"""Errors are problems (RFC 9457) that tell callers about their request and nothing about what is inside."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.support.application import template_application
from tests.support.internals import told_of_the_inside
from tests.support.platform import Account, RunningPlatform

API = template_application().rest_api
assert API is not None
ROUTES = sorted({(route.method, route.path) for route in API.routes if route.path != "/health"})

# Requests that every endpoint has to turn down, or has no trouble with; the ids are of nothing.
REQUESTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no JSON": {"content": b'{"a": ', "headers": {"Content-Type": "application/json"}},
    "not text": {"content": b"\xff\xfe\x00", "headers": {"Content-Type": "application/json"}},
    "another type": {"content": b"<a/>", "headers": {"Content-Type": "application/xml"}},
    "an array": {"json": [1, 2, 3]},
    "deep": {"content": b"[" * 5_000 + b"]" * 5_000, "headers": {"Content-Type": "application/json"}},
    "of a wrong kind": {"json": {"email": 1, "password": ["x"], "title": {"a": 1}, "unknown": "' OR 1=1 --"}},
    "a query": {"params": {"limit": "'; SELECT 1 --", "cursor": "%00", "q": "\x00", "lat": "north"}},
}


@pytest.fixture
def account(platform: RunningPlatform) -> Account:
    """Of each test its own, so that none of these requests is one too many: that would hide what they are told else."""
    return platform.sign_up()


# They end the session that the test uses, or the account.
ENDINGS = {("POST", "/v1/auth/logout"), ("DELETE", "/v1/users/me")}


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("signed_in", [False, True], ids=["anonymous", "signed-in"])
def test_no_endpoint_answers_with_more_than_the_problem(
    request_name: str, signed_in: bool, platform: RunningPlatform, account: Account
) -> None:
    for method, path in ROUTES:
        if signed_in and (method, path) in ENDINGS:
            continue
        options = dict(REQUESTS[request_name])
        headers = {**options.pop("headers", {}), **(account.headers if signed_in else {})}
        for id_ in ("999999999", "x'--"):
            answer = platform.http.request(method, re.sub(r"\{[^}]+\}", id_, path), headers=headers, **options)
            where = f"{method} {path} of {id_}: {answer.status_code}"
            assert answer.status_code < 500, f"{where}: {answer.text}"
            assert answer.status_code != 429, where
            if answer.is_error:
                assert list(told_of_the_inside(answer)) == [], where
                assert_problem(answer, where)
            if "{" not in path:
                break


def assert_problem(answer: httpx.Response, where: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json", where
    problem = answer.json()
    assert problem["type"].startswith("urn:events-platform:problem:"), where
    assert problem["request_id"] == answer.headers["x-request-id"], where
    extensions = {"errors", "retry_after", "limit"}
    assert problem.keys() - extensions <= {"type", "title", "status", "detail", "instance", "request_id"}, where


@pytest.mark.parametrize("path", ["/v1/nowhere", "/", "/v1/events/1/../../x", "/favicon.ico", "/v1//events", "/.env"])
def test_what_is_not_there_is_a_problem_too(path: str, platform: RunningPlatform) -> None:
    answer = platform.http.get(path)

    assert answer.status_code == 404
    assert list(told_of_the_inside(answer)) == []
    assert_problem(answer, path)


@pytest.mark.parametrize(
    "text",
    [
        'Traceback (most recent call last):\n  File "/var/task/app.py", line 3, in handler',
        'duplicate key value violates unique constraint "users_email_key"',
        "SELECT id FROM identity.users",
        "psycopg.errors.UniqueViolation",
        "connection to server at 127.0.0.1, port 5432 failed",
        "For further information visit https://errors.pydantic.dev/2.13/v/int_parsing",
        "ValidationError: 1 validation error for SignUp",
        "arn:aws:lambda:us-east-1:123456789012:function:Login",
        "Python/3.13 aiohttp",
    ],
)
def test_what_would_tell_something_is_noticed(text: str) -> None:
    assert list(told_of_the_inside(httpx.Response(500, text=text)))
    assert list(told_of_the_inside(httpx.Response(200, text="fine", headers={"Server": "uvicorn"})))
