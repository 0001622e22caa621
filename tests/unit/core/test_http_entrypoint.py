"""REST functions, from API Gateway's proxy event to the answer it turns into a response."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Body, Path, Query, Response
from pydantic import BaseModel, ConfigDict, EmailStr, Field

from eventsplatform.entrypoints import http
from eventsplatform.entrypoints.access import Access, anyone, signed_in, verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.errors import ConflictError, DependencyUnavailableError, PlatformError, RateLimitedError
from eventsplatform.fields import ONE_LINE
from eventsplatform.gate.model import LimitClass
from eventsplatform.gate.policies import EXPORT, READ
from eventsplatform.gate.service import Admission, Gate
from eventsplatform.idempotency import named_request
from eventsplatform.identity.caller import Caller, Client
from tests.support.lambda_events import Context, caller_context, rest_event

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=10), ONE_LINE]
    lat: float = Field(ge=-90, le=90)


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, Field(min_length=3), ONE_LINE]
    size: int = Field(ge=1, le=100)
    place: Place | None = None


class Filter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    q: Annotated[str, Field(max_length=20), ONE_LINE] = ""
    tag: list[str] = []
    limit: int = Field(default=20, ge=1, le=100)


class OpenGate:
    """Lets everyone through, and knows who has confirmed an address since."""

    def __init__(self) -> None:
        self.admitted: list[tuple[Caller | None, str, LimitClass]] = []
        self.verified_since: set[int] = set()
        self.refusal: PlatformError | None = None

    def admit(self, caller: Caller | None, address: str, limit_class: LimitClass) -> Admission:
        self.admitted.append((caller, address, limit_class))
        if self.refusal is not None:
            raise self.refusal
        return Admission({"RateLimit": '"read";r=9;t=1'})

    def is_verified(self, caller: Caller) -> bool:
        return caller.user_id in self.verified_since


@pytest.fixture(autouse=True)
def gate(monkeypatch: pytest.MonkeyPatch) -> OpenGate:
    opened = OpenGate()
    monkeypatch.setattr(http, "provide", {Gate: opened}.__getitem__)
    return opened


function = HttpFunction(access=anyone(), limit=READ)


@function.post("/v1/things", status_code=201)
async def create(thing: Thing, response: Response) -> Thing:
    response.headers["Location"] = "/v1/things/1"
    return thing


@function.get("/v1/things")
async def find(query: Annotated[Filter, Query()]) -> Filter:
    return query


@function.get("/v1/things/{thing_id}")
async def get(thing_id: int = Path(ge=1, le=2**63 - 1)) -> int:
    return thing_id


def closed(access: Access) -> HttpFunction:
    """A function that answers who calls, from where."""
    guarded = HttpFunction(access=access, limit=READ)

    caller_in_hand, client_in_hand = guarded.caller(), guarded.client()

    @guarded.get("/v1/mine")
    async def mine(caller: Caller = caller_in_hand, client: Client = client_in_hand) -> list[str]:
        return [str(caller.user_id), client.address]

    return guarded


@function.get("/v1/conflict")
async def conflict() -> None:
    raise ConflictError("Taken already.")


@function.get("/v1/down")
async def down() -> None:
    raise DependencyUnavailableError("database")


@function.get("/v1/broken")
async def broken() -> None:
    raise RuntimeError("password=hunter2")


@function.get("/v1/empty", status_code=204)
async def empty() -> None:
    return None


@function.get("/v1/cached")
async def cached(response: Response) -> int:
    response.headers["Cache-Control"] = "public, max-age=60"
    return 1


@function.get("/v1/address")
async def get_address(address: str = function.address()) -> str:
    return address


@function.get("/v1/picture")
async def picture() -> Response:
    return Response(b"\x89PNG\r\n", media_type="image/png")


THING = {"title": "A thing", "size": 5}


def call(method: str, path: str, **event: Any) -> dict[str, Any]:
    answer: dict[str, Any] = function.handler(rest_event(method, path, **event), Context())
    assert json.loads(json.dumps(answer)) == answer, "Lambda answers are JSON"
    return answer


def problem(answer: dict[str, Any], status: int, code: str) -> dict[str, Any]:
    """The problem that an answer is, with the members that all of them have."""
    content: dict[str, Any] = json.loads(answer["body"])
    assert answer["statusCode"] == content["status"] == status
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert not answer["isBase64Encoded"], "API Gateway would hand on the base64 text"
    assert content["type"] == f"urn:events-platform:problem:{code}"
    assert content["request_id"] == "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
    assert {"title", "detail", "instance"} <= set(content)
    return content


def pointers(answer: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in problem(answer, 422, "invalid_input")["errors"]]


def test_a_sound_request_is_answered() -> None:
    answer = call("POST", "/v1/things", body=THING)

    assert answer["statusCode"] == 201
    assert json.loads(answer["body"]) == {**THING, "place": None}
    assert answer["headers"]["location"] == "/v1/things/1"
    assert answer["headers"]["content-type"] == "application/json"


def test_a_function_that_ran_something_asynchronous_of_its_own_still_answers() -> None:
    asyncio.run(asyncio.sleep(0))

    assert call("POST", "/v1/things", body=THING)["statusCode"] == 201


def test_every_answer_has_the_request_id_and_the_security_headers() -> None:
    for answer in (
        call("POST", "/v1/things", body=THING),
        call("POST", "/v1/things", body="{"),
        call("POST", "/v1/things", body="x", headers={"Content-Type": "text/plain"}),
        call("GET", "/v1/broken"),
        call("GET", "/v1/nowhere"),
    ):
        headers = {name.lower(): value for name, value in answer["headers"].items()}
        assert headers["x-request-id"] == "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none';"
        assert headers["x-frame-options"] == "DENY"
        assert headers["strict-transport-security"].startswith("max-age=")
        assert headers["referrer-policy"] == "no-referrer"
        assert "camera=()" in headers["permissions-policy"]


def test_an_endpoint_is_told_where_the_request_was_sent_to_as_api_gateway_has_it() -> None:
    """With its stage, and without the query. A Host header is the client's word."""
    answer = call("GET", "/v1/address", headers={"Host": "evil.example.org"}, query={"token": ["secret"]})

    assert json.loads(answer["body"]) == "https://api.example.org/dev/v1/address"


def test_an_endpoint_may_allow_caching() -> None:
    headers = call("GET", "/v1/cached")["headers"]

    assert [value for name, value in headers.items() if name.lower() == "cache-control"] == ["public, max-age=60"]


@pytest.mark.parametrize(
    "body",
    [
        "{",
        '{"title":',
        "[1,]",
        "{'title': 1}",
        '{"title": "a" "b"}',
        "\x00",
        '{"size": ' + "9" * 5_000 + "}",
        "[" * 50_000,
    ],
)
def test_a_body_that_is_no_json_is_a_400(body: str) -> None:
    problem(call("POST", "/v1/things", body=body), 400, "malformed_request")


def test_a_400_says_where_the_json_ends_to_be_json() -> None:
    assert "at character 9" in problem(call("POST", "/v1/things", body='{"title":'), 400, "malformed_request")["detail"]


def test_bytes_that_are_no_utf8_are_a_400() -> None:
    body = base64.b64encode(b'{"title": "\xff\xfe"}').decode()

    problem(call("POST", "/v1/things", body=body, is_base64=True), 400, "malformed_request")


def test_half_characters_are_a_400_as_they_are_and_a_422_as_json_escapes() -> None:
    problem(call("POST", "/v1/things", body='{"title": "abc\ud800"}'), 400, "malformed_request")
    problem(call("GET", "/v1/things", query={"q": ["\ud800"]}), 400, "malformed_request")

    assert pointers(call("POST", "/v1/things", body='{"title": "abc\\ud800", "size": 1}')) == ["/title"]
    assert pointers(call("POST", "/v1/things", body='{"a\\ud800": 1}')) == [""]


def test_a_base64_body_is_read() -> None:
    body = base64.b64encode(json.dumps(THING).encode()).decode()

    assert call("POST", "/v1/things", body=body, is_base64=True)["statusCode"] == 201


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_content_type_is_a_415(content_type: str) -> None:
    answer = call("POST", "/v1/things", body=THING, headers={"Content-Type": content_type})

    assert "'application/json'" in problem(answer, 415, "unsupported_media_type")["detail"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json "])
def test_the_content_type_has_no_case_and_may_have_parameters(content_type: str) -> None:
    assert call("POST", "/v1/things", body=THING, headers={"Content-Type": content_type})["statusCode"] == 201


def test_header_names_have_no_case() -> None:
    event = rest_event("POST", "/v1/things", body=THING)
    event["headers"] = {"content-type": "application/json"}
    event["multiValueHeaders"] = {"content-type": ["application/json"]}

    assert function.handler(event, Context())["statusCode"] == 201


def test_a_request_without_any_headers_is_answered() -> None:
    event = rest_event("GET", "/v1/things/5")
    event["headers"] = event["multiValueHeaders"] = None

    assert function.handler(event, Context())["body"] == "5"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, ["/title", "/size"]),
        ({**THING, "title": "ab"}, ["/title"]),
        ({**THING, "title": "a\0bc"}, ["/title"]),
        ({**THING, "size": 0}, ["/size"]),
        ({**THING, "size": 1e400}, ["/size"]),
        ({**THING, "size": 10**100}, ["/size"]),
        ({**THING, "size": None}, ["/size"]),
        ({**THING, "place": {"name": "x", "lat": float("nan")}}, ["/place/lat"]),
        ({**THING, "place": {"name": "x", "lat": float("inf")}}, ["/place/lat"]),
        ({**THING, "colour": "red"}, ["/colour"]),
        ({**THING, "a/b~c": 1}, ["/a~1b~0c"]),
        ({**THING, "place": {"name": "x", "lat": 0, "zip": 1}}, ["/place/zip"]),
        ([], [""]),
        ("null", [""]),
        (None, [""]),
        ("", [""]),
    ],
)
def test_values_that_break_rules_are_a_422_that_points_at_each(body: Any, where: list[str]) -> None:
    assert pointers(call("POST", "/v1/things", body=body)) == where


def test_a_422_repeats_nothing_that_was_sent() -> None:
    answer = call("POST", "/v1/things", body={"title": "hunter2" * 10, "size": "hunter2"})

    assert "hunter2" not in answer["body"]


def test_a_rule_of_ours_is_worded_as_it_was_written() -> None:
    answer = call("POST", "/v1/things", body={**THING, "title": "a\0bc"})

    assert problem(answer, 422, "invalid_input")["errors"][0]["detail"] == "must not have the character U+0000"


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"limit": ["0"]}, ["/query/limit"]),
        ({"limit": ["many"]}, ["/query/limit"]),
        ({"limit": ["1", "999"]}, ["/query/limit"]),
        ({"q": ["x" * 21]}, ["/query/q"]),
        ({"q": ["x" * 100_000]}, ["/query/q"]),
        ({"q": ["a\0"]}, ["/query/q"]),
        ({"colour": ["red"]}, ["/query/colour"]),
    ],
)
def test_query_parameters_are_checked_like_bodies(query: dict[str, list[str]], where: list[str]) -> None:
    assert pointers(call("GET", "/v1/things", query=query)) == where


def test_a_repeated_parameter_is_a_list_or_its_last_value() -> None:
    answer = call("GET", "/v1/things", query={"tag": ["a", "b&limit=5"], "limit": ["1", "7"], "q": ["x=1&y"]})

    assert json.loads(answer["body"]) == {"q": "x=1&y", "tag": ["a", "b&limit=5"], "limit": 7}


@pytest.mark.parametrize("thing_id", ["0", "-1", "abc", "9223372036854775808", "9" * 5_000, "1e3", "٣", "1.5", ""])
def test_an_id_that_is_none_is_not_found_or_a_422(thing_id: str) -> None:
    answer = call("GET", f"/v1/things/{thing_id}", resource="/v1/things/{thing_id}")

    if thing_id:
        assert pointers(answer) == ["/path/thing_id"]
    else:
        problem(answer, 404, "not_found")


def test_the_largest_id_is_an_id() -> None:
    assert call("GET", "/v1/things/9223372036854775807")["body"] == "9223372036854775807"


def test_a_trailing_slash_is_not_redirected() -> None:
    problem(call("POST", "/v1/things/", body=THING), 404, "not_found")


def test_an_unknown_path_is_a_404_and_another_method_a_405() -> None:
    problem(call("GET", "/v1/nowhere"), 404, "not_found")
    for method in ("HEAD", "OPTIONS", "DELETE"):
        answer = call(method, "/v1/conflict")
        problem(answer, 405, "method_not_allowed")
        assert answer["headers"]["allow"] == "GET"


def test_a_platform_error_is_its_problem_with_its_headers() -> None:
    assert problem(call("GET", "/v1/conflict"), 409, "conflict")["detail"] == "Taken already."
    answer = call("GET", "/v1/down")
    assert problem(answer, 503, "dependency_unavailable")["instance"] == "/v1/down"
    assert answer["headers"]["retry-after"] == "2"


def test_an_unexpected_exception_is_a_500_without_internals_and_logged_with_its_stack(
    logged: Callable[[], list[dict[str, Any]]],
) -> None:
    answer = call("GET", "/v1/broken", headers={"traceparent": TRACEPARENT})

    problem(answer, 500, "internal_error")
    assert "hunter2" not in answer["body"]
    assert "RuntimeError" not in answer["body"]
    (line,) = [line for line in logged() if line["level"] == "ERROR"]
    assert "RuntimeError: password=<redacted>" in line["exception"]
    assert "in broken" in line["exception"]
    assert line["request_id"] == "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def answer_of(access: Access, **event: Any) -> dict[str, Any]:
    return closed(access).handler(rest_event("GET", "/v1/mine", **event), Context())


def test_the_caller_is_whom_the_authorizer_names_at_the_address_that_the_gateway_saw() -> None:
    answer = answer_of(signed_in(), authorizer=caller_context(7), headers={"X-Forwarded-For": "192.0.2.1"})

    assert json.loads(answer["body"]) == ["7", "203.0.113.7"]


def test_without_a_caller_it_is_a_401_that_names_the_scheme() -> None:
    for access in (signed_in(), signed_in("events:read"), verified("events:read")):
        answer = answer_of(access)

        problem(answer, 401, "unauthenticated")
        assert answer["headers"]["WWW-Authenticate"].startswith("Bearer")


def test_a_missing_permission_is_a_403_that_names_it() -> None:
    answer = answer_of(signed_in("events:read"), authorizer=caller_context(7, "events:create"))

    assert "'events:read'" in problem(answer, 403, "forbidden")["detail"]
    assert answer_of(signed_in("events:read"), authorizer=caller_context(7, "events:read"))["statusCode"] == 200


def test_who_has_not_confirmed_an_address_is_told_how(gate: OpenGate) -> None:
    unverified = {**caller_context(7, "events:read"), "verified": "false"}

    answer = answer_of(verified("events:read"), authorizer=unverified)

    assert "Confirm your e-mail address" in problem(answer, 403, "forbidden")["detail"]
    assert answer_of(signed_in("events:read"), authorizer=unverified)["statusCode"] == 200
    gate.verified_since.add(7)
    assert answer_of(verified("events:read"), authorizer=unverified)["statusCode"] == 200


def test_every_request_passes_the_gate_once_with_its_address_and_limit(gate: OpenGate) -> None:
    answer = answer_of(signed_in(), authorizer=caller_context(7))

    ((caller, address, limit),) = gate.admitted
    assert caller is not None
    assert (caller.user_id, address, limit) == (7, "203.0.113.7", READ)
    assert answer["headers"]["RateLimit"] == '"read";r=9;t=1'


def test_whom_the_gate_refuses_reaches_no_endpoint(gate: OpenGate) -> None:
    gate.refusal = RateLimitedError("Too fast.", retry_after_seconds=3)

    answer = answer_of(signed_in(), authorizer=caller_context(7))

    problem(answer, 429, "rate_limited")
    assert answer["headers"]["Retry-After"] == "3"


@pytest.mark.parametrize(
    ("accept", "status", "form", "limit"),
    [
        (None, 200, "application/json", READ),
        ("*/*", 200, "application/json", READ),
        ("text/csv", 200, "text/csv", EXPORT),
        ("text/csv, application/json;q=0.5", 200, "text/csv", EXPORT),
        ("image/png", 406, None, READ),
    ],
)
def test_a_form_that_costs_more_has_a_limit_of_its_own(
    gate: OpenGate, accept: str | None, status: int, form: str | None, limit: LimitClass
) -> None:
    offering = HttpFunction(access=anyone(), limit=READ, forms={"text/csv": EXPORT})
    preferred = offering.form()

    @offering.get("/v1/table")
    async def table(form: str = preferred) -> str:
        return form

    headers = {} if accept is None else {"Accept": accept}
    answer = offering.handler(rest_event("GET", "/v1/table", headers=headers), Context())

    assert answer["statusCode"] == status
    if form is not None:
        assert json.loads(answer["body"]) == form
    assert [admitted[2] for admitted in gate.admitted] == [limit]


def test_an_endpoint_without_a_limit_asks_no_gate(gate: OpenGate) -> None:
    unlimited = HttpFunction(access=anyone(), limit=None)
    unlimited.get("/v1/mine")(empty)

    assert unlimited.handler(rest_event("GET", "/v1/mine"), Context())["statusCode"] == 200
    assert gate.admitted == []


def test_an_address_that_is_none_is_refused_in_the_words_of_whoever_checked_it() -> None:
    addressed = HttpFunction(access=anyone(), limit=READ)

    @addressed.post("/v1/addresses")
    async def address(email: Annotated[EmailStr, Body(embed=True)]) -> str:
        return email

    answer = addressed.handler(rest_event("POST", "/v1/addresses", body={"email": "ada@lovelace.test"}), Context())

    (error,) = problem(answer, 422, "invalid_input")["errors"]
    assert error["pointer"] == "/email"
    assert "special-use or reserved name" in error["detail"]


def test_a_body_beyond_the_bound_is_a_413() -> None:
    problem(call("POST", "/v1/things", body={"title": "x" * 70_000, "size": 1}), 413, "request_too_large")


def test_a_body_nested_too_deep_is_a_400() -> None:
    def nested(depth: int) -> str:
        return '{"title": "[[[[", "size": ' + "[" * depth + "]" * depth + "}"

    problem(call("POST", "/v1/things", body=nested(16)), 400, "malformed_request")
    assert pointers(call("POST", "/v1/things", body=nested(15))) == ["/size"]


def test_a_request_can_be_named_by_its_sender() -> None:
    named = HttpFunction(access=anyone(), limit=READ)

    @named.post("/v1/named")
    async def name() -> str:
        request = named_request()
        if request is None:
            return "unnamed"
        request.replayed = True
        return request.id.hex()

    def post(**headers: str) -> dict[str, Any]:
        return named.handler(rest_event("POST", "/v1/named", headers=headers), Context())

    answer = post(**{"Idempotency-Key": "a"})

    assert answer["headers"]["Idempotency-Replayed"] == "true"
    assert answer["body"] == post(**{"idempotency-key": "a"})["body"] != post(**{"Idempotency-Key": "b"})["body"]
    assert json.loads(post()["body"]) == "unnamed"
    assert "Idempotency-Replayed" not in post()["headers"]
    problem(post(**{"Idempotency-Key": "é"}), 400, "malformed_request")


def test_an_answer_without_content_has_none() -> None:
    answer = call("GET", "/v1/empty")

    assert (answer["statusCode"], answer["body"]) == (204, "")


def test_what_is_no_text_is_sent_as_base64() -> None:
    answer = call("GET", "/v1/picture")

    assert answer["isBase64Encoded"]
    assert base64.b64decode(answer["body"]) == b"\x89PNG\r\n"


def test_a_request_is_counted_under_the_template_of_its_endpoint(
    metrics: Callable[[], list[dict[str, Any]]],
) -> None:
    call("GET", "/v1/things/123456", resource="/v1/things/{thing_id}")

    written = metrics()
    (counted,) = [line for line in written if "http_requests_total" in line]
    assert (counted["method"], counted["endpoint"], counted["status"]) == ("GET", "/v1/things/{thing_id}", "200")
    assert counted["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "EventsPlatform"
    (timed,) = [line for line in written if "http_request_duration_seconds" in line]
    assert 0 <= timed["http_request_duration_seconds"][0] < 60
    assert "123456" not in json.dumps(written)


def test_a_failed_request_is_counted_under_its_status(metrics: Callable[[], list[dict[str, Any]]]) -> None:
    call("GET", "/v1/broken")
    call("POST", "/v1/things", body="x", headers={"Content-Type": "text/plain"})

    assert [line["status"] for line in metrics() if "http_requests_total" in line] == ["500", "415"]


@pytest.fixture
def cross_origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The one other origin is read once per environment: the test is an environment of its own."""
    http._cross_origin_headers.cache_clear()
    yield monkeypatch
    http._cross_origin_headers.cache_clear()


def test_pages_of_the_one_other_origin_may_read_answers_and_errors(cross_origin: pytest.MonkeyPatch) -> None:
    cross_origin.setenv("CORS_ORIGIN", "https://app.example.org")

    for answer in (call("GET", "/v1/things/5"), call("POST", "/v1/things", body="x", headers={"Content-Type": "a/b"})):
        assert answer["headers"]["Access-Control-Allow-Origin"] == "https://app.example.org"
        assert "ETag" in answer["headers"]["Access-Control-Expose-Headers"]


def test_without_another_origin_no_page_may_read_answers(cross_origin: pytest.MonkeyPatch) -> None:
    cross_origin.delenv("CORS_ORIGIN", raising=False)

    assert "Access-Control-Allow-Origin" not in call("GET", "/v1/things/5")["headers"]
