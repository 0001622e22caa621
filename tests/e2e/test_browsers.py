"""What browsers are told: whose pages may call the API, and how every answer of it is to be treated."""

from __future__ import annotations

import re

import httpx
import pytest

from eventsplatform.entrypoints.http import DEFAULT_HEADERS
from tests.support.application import template_application
from tests.support.browser import SAFE_METHODS, may_read, may_send
from tests.support.platform import RunningPlatform

API = template_application().rest_api
assert API is not None
ROUTES = sorted({(route.method, route.path) for route in API.routes})
SENT = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "traceparent")


@pytest.fixture(scope="module")
def origin(platform: RunningPlatform) -> str:
    return platform.web_origin


@pytest.fixture(scope="module")
def foreign(origin: str) -> list[str]:
    return [
        "https://evil.example",
        "null",
        f"{origin}.evil.example",
        f"{origin}0",
        origin.replace("http:", "https:"),
        origin.replace("localhost", "127.0.0.1"),
        origin.replace("localhost", "evil.localhost"),
    ]


def some(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "1", path)


def preflight(platform: RunningPlatform, path: str, origin: str, method: str) -> httpx.Response:
    requested = ",".join(sorted(name.lower() for name in SENT))
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": requested,
    }
    return platform.http.options(some(path), headers=headers)


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda part: part)
def test_a_preflight_lets_pages_of_the_one_origin_through_and_no_others(
    method: str, path: str, platform: RunningPlatform, origin: str, foreign: list[str]
) -> None:
    answer = preflight(platform, path, origin, method)

    assert may_send(answer, origin, method, SENT)
    assert not may_send(answer, origin, method, [*SENT, "X-Other"])
    assert int(answer.headers["access-control-max-age"]) >= 600
    for other in foreign:
        answer = preflight(platform, path, other, method)
        assert not may_send(answer, other, method, ())
        assert "*" not in answer.headers["access-control-allow-origin"]
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("path", sorted({path for _, path in ROUTES}))
def test_a_preflight_names_the_methods_of_its_path_alone(path: str, platform: RunningPlatform, origin: str) -> None:
    served = {method for method, served_path in ROUTES if served_path == path}

    for method in {"PUT", "PATCH", "DELETE"}:
        answer = preflight(platform, path, origin, method)
        assert may_send(answer, origin, method, SENT) == (method in served)
        named = {name.strip() for name in answer.headers["access-control-allow-methods"].split(",")}
        assert named == served | {"OPTIONS"}
    assert served <= SAFE_METHODS | {"PUT", "PATCH", "DELETE"}


def test_the_browsers_rules_would_let_a_careless_api_through() -> None:
    """The negative control: what the tests above would find if the API reflected origins or allowed any."""
    careless = {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "*",
        "Access-Control-Allow-Headers": "*, Authorization",
    }
    assert may_send(httpx.Response(200, headers=careless), "https://evil.example", "DELETE", SENT)
    reflecting = {**careless, "Access-Control-Allow-Origin": "https://evil.example"}
    assert may_send(httpx.Response(200, headers=reflecting), "https://evil.example", "DELETE", SENT)
    assert not may_send(httpx.Response(200, headers=reflecting), "https://good.example", "DELETE", SENT)
    assert not may_send(httpx.Response(500, headers=reflecting), "https://evil.example", "DELETE", SENT)
    with_cookies = {**reflecting, "Access-Control-Allow-Credentials": "true"}
    assert may_read(httpx.Response(200, headers=with_cookies), "https://evil.example", with_cookies=True)


def assert_private_and_safe(answer: httpx.Response, origin: str, foreign: list[str]) -> None:
    """The headers that every answer has, whoever worded it, and who may read it."""
    # How long its answer keeps is what an endpoint may say for itself.
    expected = {name: value for name, value in DEFAULT_HEADERS.items() if name != "Cache-Control"}
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert answer.headers["cache-control"] == "no-store" or answer.is_success
    assert answer.headers["x-request-id"]
    assert may_read(answer, origin)
    assert not any(may_read(answer, other) for other in foreign)
    assert not may_read(answer, origin, with_cookies=True)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda part: part)
def test_every_answer_tells_browsers_to_keep_it_to_themselves(
    method: str, path: str, platform: RunningPlatform, origin: str, foreign: list[str]
) -> None:
    for from_where in (origin, "https://evil.example"):
        answer = platform.http.request(method, some(path), headers={"Origin": from_where})

        assert_private_and_safe(answer, origin, foreign)


def test_answers_that_api_gateway_words_itself_do_so_too(
    platform: RunningPlatform, origin: str, foreign: list[str]
) -> None:
    token = {"Authorization": "Bearer nonsense"}
    answers = {
        404: platform.http.get("/v1/nowhere"),
        401: platform.http.get("/v1/auth/sessions", headers=token),
        413: platform.http.post("/v1/auth/login", content=b"x" * (10 * 1024 * 1024 + 1)),
        400: platform.http.post("/v1/auth/login", json=[]),
    }

    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    for answer in answers.values():
        assert_private_and_safe(answer, origin, foreign)


def test_the_answer_to_a_private_question_is_in_no_cache(platform: RunningPlatform) -> None:
    account = platform.sign_up()

    for path in ("/v1/users/me", "/v1/auth/sessions", "/v1/users/me/export"):
        answer = platform.http.get(path, headers=account.headers)
        if answer.status_code != 404:
            assert answer.status_code == 200, answer.text
            assert answer.headers["cache-control"] == "no-store"
