"""Ended sessions and limits on the whole platform: the cache may come and go, what has ended stays ended."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest

from eventsplatform.gate.policies import WRITE
from tests.support.platform import Account, RunningPlatform
from tests.support.polling import eventually

# Answered from Postgres alone, and only to who is signed in.
OWN_SESSIONS = "/v1/auth/sessions"

Trouble = Callable[[RunningPlatform], AbstractContextManager[None]]


def status_for(platform: RunningPlatform, account: Account) -> int:
    return platform.http.get(OWN_SESSIONS, headers=account.headers).status_code


def killed(platform: RunningPlatform) -> AbstractContextManager[None]:
    """It comes back empty."""
    return platform.engine_killed("redis")


def frozen(platform: RunningPlatform) -> AbstractContextManager[None]:
    """It comes back with what it held."""
    return platform.engine_frozen("redis")


@pytest.mark.parametrize("trouble", [killed, frozen])
def test_who_has_signed_out_stays_out_while_the_cache_is_gone_and_when_it_is_back(
    platform: RunningPlatform, trouble: Trouble
) -> None:
    gone, here = platform.sign_up(), platform.sign_up()
    assert (status_for(platform, gone), status_for(platform, here)) == (200, 200)
    platform.post("/v1/auth/logout", 204, account=gone)
    assert status_for(platform, gone) == 401, "the authorizer's answer is still cached"

    with trouble(platform):
        meanwhile = status_for(platform, gone), status_for(platform, here)

    assert meanwhile == (401, 200)
    assert (status_for(platform, gone), status_for(platform, here)) == (401, 200)


@pytest.mark.parametrize("trouble", [killed, frozen])
def test_who_signs_out_while_the_cache_is_gone_is_out_at_once_and_for_good(
    platform: RunningPlatform, trouble: Trouble
) -> None:
    gone, here = platform.sign_up(), platform.sign_up()
    assert (status_for(platform, gone), status_for(platform, here)) == (200, 200)

    with trouble(platform):
        platform.post("/v1/auth/logout", 204, account=gone)
        meanwhile = status_for(platform, gone), status_for(platform, here)

    assert meanwhile == (401, 200)
    assert (status_for(platform, gone), status_for(platform, here)) == (401, 200)


def test_every_answer_says_what_is_left(platform: RunningPlatform) -> None:
    someone = platform.sign_up()

    def counted(path: str, headers: dict[str, str]) -> httpx.Response:
        """The answer of a function that has found the cache again, which other tests take away."""

        def answer() -> httpx.Response | None:
            given = platform.http.get(path, headers=headers)
            return given if "RateLimit" in given.headers else None

        found = eventually(answer, what=f"limits of {path}")
        assert found is not None
        return found

    signed_in = counted(OWN_SESSIONS, someone.headers)
    unknown = counted("/v1/search/events", {})

    for answer, limit in ((signed_in, "read"), (unknown, "search")):
        policies = re.findall(r'"([a-z_]+)";q=\d+;w=60', answer.headers["RateLimit-Policy"])
        assert policies[0] == "global"
        assert policies[-1] == limit
        tightest = re.fullmatch(r'"([a-z_]+)";r=\d+;t=\d+', answer.headers["RateLimit"])
        assert tightest is not None
        assert tightest[1] in policies


def test_who_asks_too_often_is_told_when_to_come_back_and_nobody_else_is(platform: RunningPlatform) -> None:
    greedy, other = platform.sign_up(), platform.sign_up()

    def ask(account: Account) -> int:
        return platform.http.post("/v1/realtime/tickets", headers=account.headers).status_code

    # When someone writes for longer than the quota and what grows back meanwhile last
    admitted = 0
    while ask(greedy) != 429:
        admitted += 1
        assert admitted < 3 * WRITE.user

    # Then no sooner than the quota is used up
    assert admitted >= WRITE.user
    refused = platform.http.post("/v1/realtime/tickets", headers=greedy.headers)
    while refused.status_code != 429:
        refused = platform.http.post("/v1/realtime/tickets", headers=greedy.headers)
    problem = refused.json()
    assert refused.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "urn:events-platform:problem:rate_limited"
    assert problem["violated-policies"] == ["write"]
    assert refused.headers["RateLimit"] == f'"write";r=0;t={refused.headers["Retry-After"]}'
    # And neither another address that the request claims helps, nor is anyone or anything else refused
    claimed = {**greedy.headers, "X-Forwarded-For": "198.51.100.9"}
    answers = [platform.http.post("/v1/realtime/tickets", headers=claimed).status_code for _ in range(20)]
    assert 429 in answers
    assert ask(other) == 201
    assert status_for(platform, greedy) == 200
    eventually(lambda: ask(greedy) == 201, within=5, every=0.25, what="room again")
