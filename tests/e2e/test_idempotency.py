"""A request that its client names has its effect once, over the real gateway."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.support.platform import Account, RunningPlatform, event_fields


@pytest.fixture(scope="module")
def organiser(platform: RunningPlatform) -> Account:
    return platform.sign_up()


def post_ten_at_once(
    platform: RunningPlatform, organiser: Account, title: str, key: str | None
) -> list[httpx.Response]:
    barrier = threading.Barrier(10)
    headers = organiser.headers | ({"Idempotency-Key": key} if key else {})
    body = event_fields(title=title)

    def post(_: int) -> httpx.Response:
        barrier.wait()
        return platform.http.post("/v1/events", headers=headers, json=body)

    with ThreadPoolExecutor(10) as pool:
        return list(pool.map(post, range(10)))


def created(platform: RunningPlatform, title: str) -> int:
    return len(platform.sql("SELECT FROM catalog.events WHERE title = %s", [title]))


def test_ten_identical_requests_at_once_have_one_effect_and_ten_equal_answers(
    platform: RunningPlatform, organiser: Account
) -> None:
    title = f"Once {uuid4()}"

    answers = post_ten_at_once(platform, organiser, title, str(uuid4()))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len({(answer.headers["Location"], answer.headers["ETag"]) for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert created(platform, title) == 1


def test_without_a_key_they_have_ten(platform: RunningPlatform, organiser: Account) -> None:
    """The control: it is the key that makes them one."""
    title = f"Ten times {uuid4()}"

    answers = post_ten_at_once(platform, organiser, title, None)

    assert len({answer.json()["id"] for answer in answers}) == 10
    assert created(platform, title) == 10


def test_the_same_key_for_another_body_is_refused(platform: RunningPlatform, organiser: Account) -> None:
    headers = {**organiser.headers, "Idempotency-Key": str(uuid4())}
    body = event_fields()
    assert platform.http.post("/v1/events", headers=headers, json=body).status_code == 201

    answer = platform.http.post("/v1/events", headers=headers, json=body | {"capacity": 7})

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/header/idempotency-key"]
