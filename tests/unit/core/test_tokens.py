from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from eventsplatform.clock import Clock, utc_now
from eventsplatform.errors import UnauthenticatedError
from eventsplatform.identity.model import User
from eventsplatform.identity.tokens import LIFETIME, AccessTokenIssuer, AccessTokenVerifier

KEY, OTHER_KEY = "k" * 64, "o" * 64
KEYS = {"active": "k1", "k1": KEY}
ADA = User(
    id=7,
    email="ada@example.org",
    name="Ada",
    role="user",
    permissions=["events:read"],
    status="active",
    email_verified=True,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def issue(keys: Mapping[str, str] = KEYS, *, issuer: str = "i", audience: str = "a", clock: Clock = utc_now) -> str:
    return AccessTokenIssuer(lambda: keys, issuer=issuer, audience=audience, clock=clock).issue(
        ADA, session_id="s-1", generation=3
    )


def verifier(keys: Mapping[str, str] = KEYS) -> AccessTokenVerifier:
    return AccessTokenVerifier(lambda: keys, issuer="i", audience="a")


def forged(
    changes: Mapping[str, Any] | None = None,
    *,
    without: str = "",
    key: Any = KEY,
    algorithm: str | None = "HS256",
    headers: Mapping[str, Any] | None = None,
) -> str:
    """A token as the issuer makes them, except for what is asked to be different."""
    claims = {**jwt.decode(issue(), options={"verify_signature": False}), **(changes or {})}
    claims.pop(without, None)
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "k1", **(headers or {})})


def refused(token: str) -> str:
    with pytest.raises(UnauthenticatedError) as error:
        verifier().verify(token)
    return error.value.detail


def test_a_token_tells_who_is_calling_and_what_they_may_do() -> None:
    caller = verifier().verify(issue())

    assert (caller.user_id, caller.email, caller.role) == (7, "ada@example.org", "user")
    assert caller.permissions == {"events:read"}
    assert (caller.session_id, caller.generation, caller.verified) == ("s-1", 3, True)
    assert timedelta(0) < caller.expires_at - utc_now() <= LIFETIME


def test_two_tokens_of_one_user_have_different_ids() -> None:
    assert verifier().verify(issue()).token_id != verifier().verify(issue()).token_id


def test_the_forging_of_these_tests_makes_tokens_that_pass_when_nothing_is_different() -> None:
    assert verifier().verify(forged()).user_id == 7


@pytest.mark.parametrize(
    "make",
    [
        lambda: forged(key=None, algorithm=None),
        lambda: forged(key=OTHER_KEY),
        lambda: forged(algorithm="HS512"),
        lambda: forged({"iss": "someone else"}),
        lambda: forged({"aud": "another api"}),
        lambda: forged({"aud": ["a", "another api"]}),
        lambda: forged({"sub": "seven"}),
        lambda: forged({"sub": 7}),
        lambda: forged({"permissions": 5}),
        lambda: forged({"permissions": "events:read"}),
        lambda: forged({"gen": "3"}),
        lambda: forged({"gen": True}),
        lambda: forged({"sid": 1}),
        lambda: forged({"email_verified": "true"}),
        lambda: forged({"exp": 10**18}),
        lambda: forged({"exp": "soon"}),
        lambda: forged({"nbf": 4_000_000_000}),
        lambda: issue()[:-4],
        lambda: issue().replace(".", "", 1),
        lambda: "",
        lambda: "a.b.c",
        lambda: "\ud800",
        lambda: "é" * 100,
    ],
)
def test_a_token_that_is_not_exactly_ours_is_refused(make: Callable[[], str]) -> None:
    """Made by the test itself: of those that are collected with it some have expired when their turn comes."""
    assert refused(make()) == "The access token is not valid."


@pytest.mark.parametrize(
    "claim",
    ["iss", "aud", "sub", "sid", "gen", "email", "email_verified", "role", "permissions", "iat", "exp", "jti"],
)
def test_a_token_without_one_of_its_claims_is_refused(claim: str) -> None:
    assert refused(forged(without=claim)) == "The access token is not valid."


@pytest.mark.parametrize("kid", ["k2", "active", "", None, "../k1"])
def test_a_token_of_an_unknown_key_is_refused(kid: str | None) -> None:
    headers = {"kid": kid} if kid is not None else {}
    claims = jwt.decode(issue(), options={"verify_signature": False})

    assert refused(jwt.encode(claims, KEY, headers=headers)) == "The access token was signed with an unknown key."


def test_the_name_of_the_active_key_is_no_key() -> None:
    """`active` stands in the key set beside the keys: its value must not verify anything."""
    claims = jwt.decode(issue(), options={"verify_signature": False})
    keys = {"active": KEY, KEY: OTHER_KEY}

    with pytest.raises(UnauthenticatedError):
        verifier(keys).verify(jwt.encode(claims, KEY, headers={"kid": "active"}))


def test_a_token_is_accepted_for_30_seconds_beyond_its_lifetime_and_no_longer() -> None:
    def issued_ago(seconds: float) -> str:
        return issue(clock=lambda: utc_now() - timedelta(seconds=seconds))

    lifetime = LIFETIME.total_seconds()
    assert verifier().verify(issued_ago(lifetime + 20)).user_id == 7
    assert refused(issued_ago(lifetime + 40)) == "The access token has expired."


def test_a_token_from_a_clock_that_runs_ahead_is_accepted_within_the_leeway() -> None:
    assert verifier().verify(issue(clock=lambda: utc_now() + timedelta(seconds=20))).user_id == 7
    assert refused(issue(clock=lambda: utc_now() + timedelta(minutes=5)))


def test_keys_rotate_without_logging_anyone_out() -> None:
    before = {"active": "k1", "k1": KEY}
    during = {"active": "k2", "k1": KEY, "k2": OTHER_KEY}
    after = {"active": "k2", "k2": OTHER_KEY}
    old, new = issue(before), issue(during)

    assert verifier(during).verify(old).user_id == 7
    assert verifier(during).verify(new).user_id == 7
    assert verifier(after).verify(new).user_id == 7
    with pytest.raises(UnauthenticatedError):
        verifier(after).verify(old)


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER  {} "])
def test_the_scheme_of_the_header_has_no_case(header: str) -> None:
    assert verifier().verify_header(header.format(issue())).user_id == 7


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic {}", "{}", "Token {}"])
def test_a_header_of_another_form_is_refused(header: str) -> None:
    with pytest.raises(UnauthenticatedError):
        verifier().verify_header(header.format(issue()))
