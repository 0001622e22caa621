"""Accounts and sessions on the whole platform: what ends is refused at the next request, wherever that goes."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from local.platform import aws_client
from tests.support.platform import PASSWORD, Account, RunningPlatform, event_fields, new_address

ANOTHER = "a quieter horse with two batteries"


def refresh(platform: RunningPlatform, account: Account, **headers: str) -> httpx.Response:
    return platform.http.post("/v1/auth/refresh", json={"refresh_token": account.refresh_token}, headers=headers)


def continued(account: Account, answer: httpx.Response) -> Account:
    assert answer.status_code == 200, answer.text
    return Account(account.id, account.email, answer.json()["access_token"], answer.json()["refresh_token"])


def warmed(platform: RunningPlatform, account: Account) -> Account:
    """One whose token API Gateway's authorizer has let through, and caches for a minute."""
    assert own_sessions(platform, account).status_code == 200
    return account


def own_sessions(platform: RunningPlatform, account: Account) -> httpx.Response:
    return platform.http.get("/v1/auth/sessions", headers=account.headers)


def everywhere(platform: RunningPlatform, account: Account) -> set[int]:
    """The statuses of requests to functions of several services, each with its own environment."""
    requests = [
        ("GET", "/v1/auth/sessions", None),
        ("POST", "/v1/events", event_fields()),
        ("GET", "/v1/events/1", None),
        ("POST", "/v1/events/1/registrations", None),
    ]
    return {
        platform.http.request(method, path, json=body, headers=account.headers).status_code
        for method, path, body in requests
    }


# ------------------------------------------------------------------------------------------ what must end


def test_a_stolen_refresh_token_used_after_its_owner_refreshed_ends_both_sessions_at_once(
    platform: RunningPlatform,
) -> None:
    # Given a refresh token that a thief has copied, and an owner who has gone on with it
    stolen = warmed(platform, platform.sign_up("Olga Owner"))
    owner = warmed(platform, continued(stolen, refresh(platform, stolen)))

    # When the thief uses it
    theft = refresh(platform, stolen)

    # Then the thief gets nothing, and all tokens of the session are dead at the next request
    assert theft.status_code == 401
    assert everywhere(platform, owner) == {401}
    assert everywhere(platform, stolen) == {401}
    assert refresh(platform, owner).status_code == 401
    (record,) = platform.sql(
        "SELECT action, details FROM messaging.audit_log WHERE subject_type = 'user' AND subject_id = %s", [owner.id]
    )
    assert record == {"action": "session.token_reused", "details": {"session_id": owner.claims["sid"]}}

    # And another session of the owner is not concerned
    assert everywhere(platform, platform.sign_in(owner.email)).isdisjoint({401})


def test_a_logged_out_access_token_is_refused_on_the_next_call_though_the_authorizer_has_let_it_through(
    platform: RunningPlatform,
) -> None:
    account, other = platform.sign_up(), platform.sign_up()
    warmed(platform, account)

    ended = platform.http.post("/v1/auth/logout", headers=account.headers)
    after = own_sessions(platform, account)

    assert (ended.status_code, ended.content) == (204, b"")
    assert after.status_code == 401
    assert after.json()["detail"] == "This session has ended; sign in again."
    assert everywhere(platform, account) == {401}
    assert refresh(platform, account).status_code == 401
    assert own_sessions(platform, other).status_code == 200


def test_the_authorizer_still_lets_the_token_of_an_ended_session_through(platform: RunningPlatform) -> None:
    """The control: it is the gate that refuses, for the token itself is as good as before."""
    account = platform.sign_up()
    platform.http.post("/v1/auth/logout", headers=account.headers)
    request = {
        "type": "REQUEST",
        "methodArn": "arn:aws:execute-api:us-east-1:000000000000:restapi/dev/GET/v1/auth/sessions",
        "headers": {"Authorization": account.headers["Authorization"]},
    }

    client = aws_client("lambda", platform.endpoints["aws"])
    answer = client.invoke(FunctionName="AuthorizeRequestFunction", Payload=json.dumps(request).encode())
    policy = json.loads(answer["Payload"].read())

    assert policy["policyDocument"]["Statement"][0]["Effect"] == "Allow"
    assert policy["context"]["sid"] == account.claims["sid"]
    assert own_sessions(platform, account).status_code == 401


def test_a_changed_password_ends_the_other_sessions_and_goes_on_in_this_one(platform: RunningPlatform) -> None:
    account = warmed(platform, platform.sign_up())
    elsewhere = warmed(platform, platform.sign_in(account.email))

    change = {"current_password": PASSWORD, "new_password": ANOTHER}
    answer = platform.http.post("/v1/auth/password/change", json=change, headers=account.headers)

    goes_on = continued(account, answer)
    assert own_sessions(platform, goes_on).status_code == 200
    assert [own_sessions(platform, each).status_code for each in (account, elsewhere)] == [401, 401]
    assert goes_on.claims["sid"] == account.claims["sid"]
    assert platform.sign_in(account.email, ANOTHER).id == account.id


def test_a_forgotten_password_is_set_anew_by_mail_and_ends_all_sessions(platform: RunningPlatform) -> None:
    account = warmed(platform, platform.sign_up())
    platform.post("/v1/auth/password/forgot", 202, email=account.email)
    token = platform.mailed_token(account.email, "reset-password")

    platform.post("/v1/auth/password/reset", 204, token=token, password=ANOTHER)

    assert everywhere(platform, account) == {401}
    platform.post("/v1/auth/login", 401, email=account.email, password=PASSWORD)
    assert platform.sign_in(account.email, ANOTHER).id == account.id
    platform.post("/v1/auth/password/reset", 422, token=token, password=PASSWORD)


def test_a_session_is_ended_from_another(platform: RunningPlatform) -> None:
    here = warmed(platform, platform.sign_up())
    elsewhere = warmed(platform, platform.sign_in(here.email))
    listed = own_sessions(platform, here).json()["items"]
    assert {(each["id"], each["current"]) for each in listed} == {
        (here.claims["sid"], True),
        (elsewhere.claims["sid"], False),
    }

    path = f"/v1/auth/sessions/{elsewhere.claims['sid']}"
    stranger = platform.http.delete(path, headers=platform.sign_up().headers)
    owner = platform.http.delete(path, headers=here.headers)

    assert (stranger.status_code, owner.status_code) == (404, 204)
    assert [own_sessions(platform, each).status_code for each in (here, elsewhere)] == [200, 401]


# ------------------------------------------------------------------------------------------ who is not verified


def test_who_has_not_confirmed_the_address_may_look_and_not_publish_and_then_may_with_the_same_token(
    platform: RunningPlatform,
) -> None:
    # Given someone who has signed up and not read the mail yet
    organiser = platform.sign_up()
    event = platform.create_event(organiser)
    account = platform.sign_up_unverified()

    def writes() -> list[httpx.Response]:
        return [
            platform.http.post("/v1/events", json=event_fields(), headers=account.headers),
            platform.http.post(f"/v1/events/{event['id']}/registrations", headers=account.headers),
        ]

    # When they read and write
    reads = [own_sessions(platform, account), platform.http.get(f"/v1/events/{event['id']}", headers=account.headers)]
    refused = writes()

    # Then they are told what to do
    assert [answer.status_code for answer in reads] == [200, 200]
    assert [answer.status_code for answer in refused] == [403, 403]
    assert all("verify" in answer.json()["detail"] for answer in refused)

    # And once they have done it, the very same token is let through
    platform.post("/v1/auth/verify", 200, token=platform.mailed_token(account.email, "verify"))
    created, registered = writes()
    assert (created.status_code, registered.status_code) == (201, 201)
    published = platform.http.post(f"/v1/events/{created.json()['id']}/publish", headers=account.headers)
    assert published.status_code == 200


def test_a_known_and_an_unknown_address_cannot_be_told_apart(platform: RunningPlatform) -> None:
    known, unknown = platform.sign_up().email, new_address()

    for path, body in (
        ("/v1/auth/login", {"password": "not the password"}),
        ("/v1/auth/password/forgot", {}),
        ("/v1/auth/verify/resend", {}),
        ("/v1/auth/register", {"password": PASSWORD, "name": "Eve"}),
    ):
        answers = [platform.http.post(path, json={"email": email, **body}) for email in (known, unknown)]
        said = [_without_what_names_it(answer, email) for answer, email in zip(answers, (known, unknown), strict=True)]
        assert said[0] == said[1]

    assert platform.mails(known)[-1]["to"] == known


def _without_what_names_it(answer: httpx.Response, email: str) -> tuple[int, dict[str, Any], set[str]]:
    content = {name: value for name, value in answer.json().items() if name != "request_id" and value != email}
    return answer.status_code, content, set(answer.headers)


# ------------------------------------------------------------------------------------------ races and repeats


def test_parallel_refreshes_leave_no_live_session_behind(platform: RunningPlatform) -> None:
    account = platform.sign_up()

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: refresh(platform, account), range(6)))

    assert sorted(answer.status_code for answer in answers)[:2] == [200, 401]
    assert sum(answer.status_code == 200 for answer in answers) == 1
    for answer in answers:
        if answer.status_code == 200:
            assert own_sessions(platform, continued(account, answer)).status_code == 401


def test_a_client_that_lost_the_answer_is_given_it_again_under_its_idempotency_key(platform: RunningPlatform) -> None:
    account, key = platform.sign_up(), {"Idempotency-Key": str(uuid4())}

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: refresh(platform, account, **key), range(6)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 5
    assert own_sessions(platform, continued(account, answers[0])).status_code == 200


def test_guessing_a_password_is_slowed_down_and_its_owner_is_not(platform: RunningPlatform) -> None:
    owner, stranger = platform.sign_up(), new_address()
    for email in (owner.email, stranger):
        guesses = [
            platform.http.post("/v1/auth/login", json={"email": email, "password": f"guess number {number}"})
            for number in range(6)
        ]

        assert [guess.status_code for guess in guesses] == [401] * 5 + [429]
        assert int(guesses[-1].headers["retry-after"]) >= 1

    assert own_sessions(platform, owner).status_code == 200


@pytest.mark.parametrize("path", ["/v1/auth/login", "/v1/auth/refresh"])
def test_an_old_access_token_does_not_keep_anyone_from_signing_in(platform: RunningPlatform, path: str) -> None:
    """Clients send the header with every request, most of all when its token has expired."""
    account = platform.sign_up()
    platform.http.post("/v1/auth/logout", headers=account.headers)
    fresh = platform.sign_in(account.email)
    body = (
        {"email": account.email, "password": PASSWORD}
        if path.endswith("login")
        else {"refresh_token": fresh.refresh_token}
    )

    for headers in (account.headers, {"Authorization": f"Bearer {_garbled(account.access_token)}"}):
        answer = platform.http.post(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        if path.endswith("refresh"):
            body = {"refresh_token": answer.json()["refresh_token"]}


def _garbled(token: str) -> str:
    head, _, _ = token.rpartition(".")
    return f"{head}.{base64.urlsafe_b64encode(bytes(32)).decode().rstrip('=')}"
