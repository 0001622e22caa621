from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eventsplatform.entrypoints.authorizer import Unauthorized, authorizer, handshake_authorizer
from eventsplatform.errors import ForbiddenError, UnauthenticatedError
from eventsplatform.identity.caller import Caller
from tests.support.callers import caller
from tests.support.lambda_events import Context

ADA = caller(7, "events:read", "events:create")
EVENT = {
    "type": "REQUEST",
    "methodArn": "arn:aws:execute-api:us-east-1:000000000000:restapi/dev/GET/v1/events/42",
    "headers": {"authorization": "Bearer x"},
}


def accept(_event: dict[str, Any]) -> Caller:
    return ADA


def refuse(_event: dict[str, Any]) -> Caller:
    raise UnauthenticatedError("The access token has expired.")


def test_a_caller_is_let_into_the_whole_stage() -> None:
    """API Gateway caches the policy per token: one for a single method would refuse the next."""
    answer = authorizer(accept)(EVENT, Context())

    assert answer["policyDocument"]["Statement"] == [
        {
            "Action": "execute-api:Invoke",
            "Effect": "Allow",
            "Resource": "arn:aws:execute-api:us-east-1:000000000000:restapi/dev/*",
        }
    ]


def test_the_policy_of_a_socket_covers_its_stage() -> None:
    event = {**EVENT, "methodArn": "arn:aws:execute-api:us-east-1:000000000000:wsapi/dev/$connect"}

    (statement,) = authorizer(accept)(event, Context())["policyDocument"]["Statement"]

    assert statement["Resource"] == "arn:aws:execute-api:us-east-1:000000000000:wsapi/dev/*"


def test_the_context_says_who_is_calling_in_flat_text() -> None:
    answer = authorizer(accept)(EVENT, Context())

    assert answer["principalId"] == "7"
    assert Caller.from_context(answer["context"]) == ADA
    assert all(isinstance(value, str) for value in answer["context"].values())


def test_a_refusal_is_the_one_word_that_api_gateway_turns_into_a_401(
    logged: Callable[[], list[dict[str, Any]]],
) -> None:
    with pytest.raises(Unauthorized) as refused:
        authorizer(refuse)(EVENT, Context())

    assert str(refused.value) == "Unauthorized"
    assert [line["reason"] for line in logged()] == ["The access token has expired."]


def test_an_authorizer_that_fails_is_not_a_refusal() -> None:
    def broken(_event: dict[str, Any]) -> Caller:
        raise RuntimeError("no keys")

    with pytest.raises(RuntimeError):
        authorizer(broken)(EVENT, Context())


def test_a_caller_who_may_not_is_denied_what_anyone_may(logged: Callable[[], list[dict[str, Any]]]) -> None:
    def forbid(_event: dict[str, Any]) -> Caller:
        raise ForbiddenError("Not from there.")

    answer = authorizer(forbid)(EVENT, Context())

    (statement,) = answer["policyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert "context" not in answer
    assert [line["reason"] for line in logged()] == ["Not from there."]


# A WebSocket's handshake ------------------------------------------------------------------------

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"


@pytest.fixture
def handshake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Connects: the effect of the policy and what it was decided by, or `Unauthorized`."""
    monkeypatch.setenv("CORS_ORIGIN", "https://app.example.org")

    def connect(query: dict[str, str] | None = None, **headers: str) -> str:
        used: list[str] = []

        def by(kind: str) -> Callable[[str], Caller]:
            def accept(credential: str) -> Caller:
                if not credential:
                    raise UnauthenticatedError("Nothing to go by.")
                used.append(f"{kind} {credential}")
                return ADA

            return accept

        event = {
            "type": "REQUEST",
            "methodArn": "arn:aws:execute-api:us-east-1:000000000000:wsapi/dev/$connect",
            "headers": {"Host": "ws.example.org", **headers},
            **({"queryStringParameters": query} if query is not None else {}),
        }
        try:
            answer = handshake_authorizer(by("header"), by("ticket"))(event, Context())
        except Unauthorized as error:
            assert used == []
            return str(error)
        (statement,) = answer["policyDocument"]["Statement"]
        return " ".join([statement["Effect"], *used])

    return connect


def test_a_connection_is_opened_with_a_header_or_with_a_ticket(handshake: Callable[..., str]) -> None:
    assert handshake(Authorization=f"Bearer {TOKEN}") == f"Allow header Bearer {TOKEN}"
    assert handshake(authorization=f"Bearer {TOKEN}") == f"Allow header Bearer {TOKEN}"
    assert handshake({"ticket": "t-1"}) == "Allow ticket t-1"


def test_a_connection_is_not_opened_with_nothing_or_with_both(handshake: Callable[..., str]) -> None:
    assert handshake() == "Unauthorized"
    assert handshake({"ticket": ""}) == "Unauthorized"
    assert handshake({"ticket": "t-1"}, Authorization=f"Bearer {TOKEN}") == "Unauthorized"


@pytest.mark.parametrize(
    "query",
    [
        {"token": "x"},
        {"access_token": "x"},
        {"Access_Token": "x"},
        {"authorization": "Bearer x"},
        {"jwt": "x"},
        {"ticket": TOKEN},
        {"anything": TOKEN},
        {"ticket": "t-1", "access_token": "x"},
    ],
)
def test_a_token_in_the_url_is_refused_whatever_else_is_sent(
    handshake: Callable[..., str], query: dict[str, str]
) -> None:
    assert handshake(query) == "Unauthorized"
    assert handshake(query, Authorization=f"Bearer {TOKEN}") == "Unauthorized"


@pytest.mark.parametrize(
    ("origin", "effect"),
    [
        (None, "Allow"),
        ("https://app.example.org", "Allow"),
        ("https://ws.example.org", "Allow"),
        ("https://evil.example.org", "Deny"),
        ("https://app.example.org.evil.example", "Deny"),
        ("https://app.example.org:8443", "Deny"),
        ("http://app.example.org", "Deny"),
        ("https://ws.example.org.evil.example", "Deny"),
        ("null", "Deny"),
        ("", "Deny"),
    ],
)
def test_pages_of_other_origins_may_not_connect(handshake: Callable[..., str], origin: str | None, effect: str) -> None:
    headers = {} if origin is None else {"Origin": origin}

    assert handshake({"ticket": "t-1"}, **headers).startswith(effect)
    assert handshake(Authorization=f"Bearer {TOKEN}", **headers).startswith(effect)


def test_a_foreign_page_does_not_use_a_ticket_up(handshake: Callable[..., str]) -> None:
    assert handshake({"ticket": "t-1"}, Origin="https://evil.example.org") == "Deny"
