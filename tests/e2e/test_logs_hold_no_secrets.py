"""At its end the session's platform is searched for the secrets that tests have used: how that search works."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from local.mailbox import Mailbox, text_message
from local.triggers.aws import aws_client
from tests.support.application import template_application
from tests.support.leaks import UsedSecrets, leaks
from tests.support.platform import PASSWORD, RunningPlatform

SECRET = "grün & \"quoted\" swordfish"  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "logs" / "functions").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    "log",
    ["logs/functions/LoginFunction.log", "logs/functions/LoginFunction.log.1", "logs/postgres.log", "output-1.txt"],
)
@pytest.mark.parametrize(
    "form",
    [SECRET, json.dumps(SECRET), json.dumps(SECRET, ensure_ascii=False), quote(SECRET, safe="")],
    ids=["plain", "json", "json-utf8", "url"],
)
def test_a_secret_is_found_in_any_log_and_form_and_not_told(log: str, form: str, state: Path) -> None:
    (state / log).write_text(f"one\nsigned in with {form}\n")

    assert leaks(state, {SECRET: "password"}) == [f"{log}:2: password"]
    assert leaks(state, {"another secret": "password"}) == []


def test_what_looks_like_a_secret_is_found_whosever_it_is(state: Path) -> None:
    log = state / "logs" / "functions" / "LoginFunction.log"
    log.write_text(
        "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0xxx.sig\n$argon2id$v=19$\nada@example.org\nmail:5f64e1d29f0c\n"
    )

    assert {leak.partition(": ")[2] for leak in leaks(state, {})} == {
        "a JSON Web Token",
        "a password's hash",
        "an address",
    }


def test_what_clients_send_and_get_is_taken_note_of(state: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        told = {
            "access_token": "access-token-1",
            "user": {"email": "ada@example.org"},
            "url": f"/x.ics?token={'t' * 43}",
        }
        return httpx.Response(200, json=told)

    used = UsedSecrets()
    with used.watch(httpx.Client(transport=httpx.MockTransport(answer), base_url="http://test")) as client:
        client.post(
            "/", json={"password": PASSWORD, "name": "Ada Lovelace"}, headers={"Authorization": "Bearer tokentoken"}
        )
        client.post("/", content=b"not JSON")
        client.get("/x.ics", params={"token": "u" * 43})
        client.get("/x.ics", params={"token": "made up by a fuzzer"})
    (state / "secrets.json").write_text(json.dumps({"JwtKeys": '{"active": "k1", "k1": "kkkkkkkkkkkk"}'}))
    text = "Open http://localhost/app/verify#token=mailed-token-1."
    Mailbox(state / "mail").put(text_message(sender="a@b.c", to=["bob@example.org"], subject="x", text=text))
    used.add_kept(state)

    accounts = {PASSWORD, "tokentoken", "access-token-1", "ada@example.org"}
    assert used.known.keys() == accounts | {
        "kkkkkkkkkkkk",
        "bob@example.org",
        "mailed-token-1",
        "t" * 43,
        "u" * 43,
    }


@pytest.mark.parametrize(
    ("status", "content", "echoed"),
    [
        (200, {"user": "Ada"}, []),
        (422, {"detail": "must be longer"}, []),
        (422, {"input": PASSWORD}, ["POST /x 422: password"]),
        (200, {"password": PASSWORD}, ["POST /x 200: password"]),
        (401, {"detail": "the token tokentoken is not known"}, ["POST /x 401: authorization"]),
        (200, {"access_token": "tokentoken"}, []),
    ],
)
def test_an_answer_that_repeats_a_secret_is_noticed(status: int, content: dict[str, str], echoed: list[str]) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=content))
    used = UsedSecrets()

    with used.watch(httpx.Client(transport=transport, base_url="http://test")) as client:
        client.post("/x", json={"password": PASSWORD}, headers={"Authorization": "Bearer tokentoken"})

    assert used.echoed == echoed


def test_no_function_is_given_a_secret_in_its_environment(platform: RunningPlatform) -> None:
    kept = UsedSecrets()
    kept.add_kept(platform.state)
    generated = [secret for secret, what in kept.known.items() if what == "a generated secret"]
    assert generated, "there are signing keys at least"

    for function in template_application().functions.values():
        given = json.dumps(dict(function.environment))
        assert not any(secret in given for secret in generated), function.name


def test_the_search_reads_what_functions_write(platform: RunningPlatform) -> None:
    # Given an account, whose password, tokens and address are known from then on
    account = platform.sign_up()
    assert {PASSWORD, account.email, account.access_token} <= platform.used_secrets.known.keys()

    # When a function fails over a secret that somebody sent it, and its runtime logs what it fails with
    secret = f"swordfish-{time.time_ns()}"
    client = aws_client("lambda", platform.endpoints["aws"])
    answer = client.invoke(FunctionName="DescribeUserFunction", Payload=json.dumps({"user_id": secret}).encode())
    request_id = answer["ResponseMetadata"]["RequestId"]

    # Then the search finds what it logged, and nothing of what is secret
    log = (platform.state / "logs" / "functions" / "DescribeUserFunction.log").read_text()
    assert "input_value=<redacted>" in log
    assert any("DescribeUserFunction.log" in leak for leak in leaks(platform.state, {request_id: "marker"}))
    assert leaks(platform.state, {**platform.used_secrets.known, secret: "password"}) == []
