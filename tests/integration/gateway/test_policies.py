"""What an authorizer's policy allows, and which outputs are none."""

from __future__ import annotations

from typing import Any

import pytest

from local.gateway.authorizers import read_decision
from local.gateway.errors import GatewayError

API = "arn:aws:execute-api:us-east-1:000000000000:api"
METHOD = f"{API}/test/GET/v1/events/7"


def statement(effect: str, *resources: str, action: Any = "execute-api:Invoke") -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": list(resources)}


def output(*statements: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"principalId": "ada", "policyDocument": {"Version": "2012-10-17", "Statement": list(statements)}, **more}


def allows(*statements: dict[str, Any]) -> bool:
    try:
        read_decision(output(*statements)).check(METHOD)
    except GatewayError:
        return False
    return True


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        (METHOD, True),
        ("*", True),
        (f"{API}/*", True),
        (f"{API}/test/*/v1/*", True),
        (f"{API}/test/GET/v1/events/?", True),
        (f"{API}/test/GET/v1/events/", False),
        (f"{API}/test/GET/v1/events/77", False),
        (f"{API}/prod/*", False),
        (f"{API}/test/POST/*", False),
        (f"{API}/test/GET/v1.events.7", False),
    ],
)
def test_resources_match_by_wildcard(resource: str, allowed: bool) -> None:
    assert allows(statement("Allow", resource)) is allowed


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        ("execute-api:Invoke", True),
        ("execute-api:*", True),
        ("*", True),
        (["s3:GetObject", "EXECUTE-API:INVOKE"], True),
        ("execute-api:ManageConnections", False),
    ],
)
def test_only_invoke_counts(action: Any, allowed: bool) -> None:
    assert allows(statement("Allow", "*", action=action)) is allowed


def test_a_deny_wins_over_an_allow_in_any_order() -> None:
    allow, deny = statement("Allow", "*"), statement("Deny", f"{API}/test/GET/*")
    assert not allows(allow, deny)
    assert not allows(deny, allow)
    assert allows(allow, statement("Deny", f"{API}/test/POST/*"))


def test_no_statement_allows_nothing() -> None:
    assert not allows()


def test_the_context_becomes_strings() -> None:
    decision = read_decision(output(context={"name": "Ada", "level": 3, "half": 0.5, "admin": True, "absent": None}))
    assert decision.context == {"principalId": "ada", "name": "Ada", "level": "3", "half": "0.5", "admin": "true"}


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        {},
        {"principalId": 5, "policyDocument": {"Statement": []}},
        {"principalId": "ada"},
        {"principalId": "ada", "policyDocument": "allow"},
        output({"Effect": "Permit", "Action": "*", "Resource": "*"}),
        output({"Effect": "Allow", "Action": "*"}),
        output({**statement("Allow", "*"), "Condition": {"IpAddress": {}}}),
        output(context={"nested": {}}),
        output(context=[1]),
    ],
    ids=str,
)
def test_what_is_no_policy_is_an_error(malformed: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        read_decision(malformed)
