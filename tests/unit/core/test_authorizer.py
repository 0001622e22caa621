from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eventsplatform.entrypoints.authorizer import Unauthorized, authorizer
from eventsplatform.errors import UnauthenticatedError
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
