"""What must not stand in a log is taken out of it, and the rest stays."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import jwt
import psycopg
import pytest
from aws_lambda_powertools import Logger
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError

from eventsplatform.entrypoints.schedule import scheduled
from eventsplatform.entrypoints.step import direct
from eventsplatform.errors import NotFoundError
from eventsplatform.observability import logger
from eventsplatform.redaction import REDACTED, error_text, pseudonym, redact, redact_text
from tests.support.lambda_events import Context

Lines = Callable[[], list[dict[str, Any]]]

PASSWORD = "hunter2 & Søn, \"quoted\" 'too'"
PLAIN_PASSWORD = "hunter2-and-more"
JWT = jwt.encode({"sub": "7", "email": "ada@example.org"}, "k" * 32, algorithm="HS256", headers={"kid": "k1"})
OPAQUE = secrets.token_urlsafe(32)
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b9dWRWJTmaaJObG"


# ---------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {JWT}",
        f"{{'authorization': 'Bearer {JWT}', 'accept': '*/*'}}",
        f"the token {JWT} is not known",
        f"the first half of one: {JWT.rpartition('.')[0]}",
        "authorization=Basic YWRhOmh1bnRlcjI=",
        "Basic YWRhOmh1bnRlcjI=",
        f"token {OPAQUE} is spent",
        f"https://events.example.org/app/verify#token={OPAQUE}",
        f"GET /ws?ticket={OPAQUE}&x=1",
        "GET /v1/users/me/calendar.ics?token=short",
        f'{{"refresh_token":"{OPAQUE}","x":1}}',
        "Cookie: session=hunter2; theme=dark",
        "set-cookie: session=hunter2; HttpOnly",
        f"password={PLAIN_PASSWORD}&name=ada",
        f"new_password: {PLAIN_PASSWORD}, name: ada",
        json.dumps({"password": PASSWORD, "name": "ada"}),
        json.dumps(json.dumps({"password": PASSWORD, "name": "ada"})),
        repr({"password": PASSWORD, "name": "ada"}),
        repr({"Password": PLAIN_PASSWORD}),
        f'{{"password": "{PLAIN_PASSWORD} and cut off',
        f"the hash {HASH} does not verify",
        f"postgresql://admin:{PLAIN_PASSWORD}@db.internal:5432/platform",
        f"redis://:{PLAIN_PASSWORD}@cache.internal:6379",
        f"x-api-key: {PLAIN_PASSWORD}",
        "cannot sign with whsec_TmljZSB0cnksK+/hunter2=",
    ],
)
def test_a_secret_in_a_text_is_gone(text: str) -> None:
    redacted = redact_text(text)

    for secret in ("hunter2", "YWRh", OPAQUE, JWT[3:30], "short", "quoted", "RdescudvJ", "cut off"):
        assert secret not in redacted
    assert REDACTED in redacted


def test_what_stands_around_a_secret_stays() -> None:
    assert redact_text(json.dumps({"a": 1, "password": PASSWORD, "name": "ada"})) == (
        '{"a": 1, "password": <redacted>, "name": "ada"}'
    )
    assert redact_text(f"GET /ws?ticket={OPAQUE}&x=1") == "GET /ws?ticket=<redacted>&x=1"
    assert redact_text("redis://:secret@cache:6379 is away") == "redis://:<redacted>@cache:6379 is away"


@pytest.mark.parametrize(
    "text",
    [
        "run finished",
        "no kafka broker answers",
        "The token has expired.",
        "duplicate key value violates unique constraint \"users_email_key\"",
        "arn:aws:secretsmanager:us-east-1:000000000000:secret:JwtKeys-AbCdEf",
        "events-platform-dev-RegisterUserFunction-Ab12Cd34Ef56Gh",
        "0af7651916cd43dd8448eb211c80319c",
        "5f64e1d2-9f0c-4c8e-9a43-8f1d2a3b4c5d",
        "Key (user_id, event_id)",
        "https://events.example.org/v1/events/42?limit=20",
        "10:15:00 to 12:15:00 @ Berlin",
        "",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "text",
    ["ada@example.org", "for ADA@Example.org.", "email=ada@example.org&x", "<ada@example.org>", "?q=ada%40example.org"],
)
def test_an_address_becomes_the_same_pseudonym_wherever_it_stands(text: str) -> None:
    expected = "mail:" + hashlib.sha256(b"ada@example.org").hexdigest()[:12]

    assert expected in redact_text(text)
    assert pseudonym("ada@example.org") == expected
    assert "example.org" not in redact_text(text)


def test_addresses_of_any_script_are_found() -> None:
    assert redact_text("for größe@bücher.example now") == f"for {pseudonym('größe@bücher.example')} now"


def test_redacting_twice_changes_nothing() -> None:
    for text in (f"password={PLAIN_PASSWORD}", json.dumps({"token": "x y"}), f"Bearer {JWT}", "ada@example.org"):
        assert redact_text(redact_text(text)) == redact_text(text)


@given(st.text(max_size=300))
def test_any_text_can_be_redacted(text: str) -> None:
    redact_text(text)
    redact_text(f'password="{text}')


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000, "x" * 100_000 + "@", 'password="' + "\\" * 100_000, "eyJ" * 30_000, "DETAIL: \n" * 10_000,
        "token=" * 20_000, "://a:" * 20_000, "-" * 100_000 + "token", "cookie:" + " " * 100_000, "input_value=" * 9_000,
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()

    redact_text(text)

    assert time.process_time() - began < 1.0  # a text that backtracks would take minutes


# ---------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "key",
    ["password", "new_password", "Password", "refreshToken", "access_token", "token", "client_secret", "x-api-key",
     "Authorization", "set-cookie", "Cookie", "ticket"],
)  # fmt: skip
def test_what_a_key_calls_a_secret_is_gone_whatever_it_is(key: str) -> None:
    assert redact({"a": [{key: "short"}, {key: ["s", {"x": "short"}]}, {key: 7}]}) == {
        "a": [{key: REDACTED}, {key: REDACTED}, {key: REDACTED}]
    }


def test_keys_that_only_say_whether_there_is_one_stay() -> None:
    value = {"password": None, "token": "", "has_password": True, "tokens_seen": 3, "secret_name": "JwtKeys"}

    assert redact(value) == value


def test_values_of_any_kind_become_such_as_json_has() -> None:
    assert redact({"ada@example.org": {1}, 7: SecretStr("hunter2"), "e": ValueError("Bearer abcdefghijkl")}) == {
        pseudonym("ada@example.org"): [1],
        "7": "**********",
        "e": "Bearer <redacted>",
    }


def test_a_value_that_holds_itself_comes_to_an_end() -> None:
    ring: list[Any] = ["ada@example.org"]
    ring.append(ring)

    assert pseudonym("ada@example.org") in str(redact(ring))


# ---------------------------------------------------------------------------------- lines


def log_everything(to: Any) -> None:
    """Each way in which a secret has come into somebody's log."""
    to.info(f"signed in with {PLAIN_PASSWORD!r}, token {JWT}", extra={"password": PLAIN_PASSWORD})
    to.info(
        "the body is %s of %s", json.dumps({"refresh_token": OPAQUE, "email": "ada@example.org"}), "ada@example.org"
    )
    to.info({"headers": {"Cookie": "sid=" + PLAIN_PASSWORD, "Authorization": f"Bearer {JWT}"}})
    to.info(json.dumps({"password": PLAIN_PASSWORD}))
    try:
        try:
            TypeAdapter(dict[str, int]).validate_python({"a": PLAIN_PASSWORD})
        except ValidationError as error:
            raise LookupError(f"no {OPAQUE} for ada@example.org") from error
    except LookupError:
        to.exception("unexpected error", extra={"nested": {"deeper": [{"token": OPAQUE}]}})


SECRETS = (PLAIN_PASSWORD, JWT, OPAQUE, "ada@example.org")


def test_no_line_holds_a_secret(logged: Lines) -> None:
    # The first line quotes the password without a word for what it is: nothing can tell it from any other word.
    log_everything(logger)
    lines = [json.dumps(line, ensure_ascii=False) for line in logged()]

    assert [secret for secret in SECRETS for line in lines[1:] if secret in line] == []
    assert JWT not in lines[0]
    assert lines[0].count(PLAIN_PASSWORD) == 1
    assert all(pseudonym("ada@example.org") in lines[index] for index in (1, 4))


def test_without_the_formatter_every_secret_would_be_there(capsys: pytest.CaptureFixture[str]) -> None:
    log_everything(Logger(service="negative-control"))
    written = capsys.readouterr().out

    assert [secret for secret in SECRETS if secret not in written] == []


@pytest.mark.parametrize("breaking", ["\n", "\r\n", "\x0b", "\x1b[2K", "\x7f", "\x85", "\x9b", "\u2028", "\u202e"])
def test_a_text_cannot_write_a_line_of_its_own(breaking: str, logged: Lines, raw: Callable[[], str]) -> None:
    forged = f'x{breaking}{{"level":"INFO","message":"admin signed in"}}'

    logger.info("user said %s", forged, extra={"said": forged, forged: 1})
    try:
        raise ValueError(forged)
    except ValueError:
        logger.exception("unexpected error")

    assert breaking not in raw().replace("\n", "", 2) if breaking == "\n" else breaking not in raw()
    assert len(raw().splitlines()) == 2
    assert logged()[0]["said"] == forged
    assert logged()[0]["message"] == f"user said {forged}"


def test_half_a_character_and_a_huge_number_can_be_logged(logged: Lines) -> None:
    logger.info("half \ud800", extra={"number": 2**70})

    assert logged()[0]["number"] == 2**70


# ---------------------------------------------------------------------------------- errors


class DataError(psycopg.errors.InvalidTextRepresentation):
    """As PostgreSQL words it; the real ones are in tests/integration/core/test_database.py."""

    sqlstate = "22P02"

    @property
    def diag(self) -> Any:
        return type("Diagnostic", (), {"message_primary": 'invalid input syntax for type integer: "hunter2"'})


def test_what_postgresql_quotes_is_not_told() -> None:
    error = DataError("invalid input syntax for type integer: \"hunter2\"\nCONTEXT:  unnamed portal parameter $1 = 'x'")

    assert error_text(error) == "invalid input syntax for type integer"


def test_details_are_cut_off_even_where_an_error_was_made_a_text() -> None:
    text = (
        'duplicate key value violates unique constraint "users_email_key"\n'
        "DETAIL:  Key (name)=(Ada\nLovelace) already exists.\nHINT: none"
    )

    assert redact_text(text) == (
        'duplicate key value violates unique constraint "users_email_key"\nDETAIL:  <redacted>\nHINT: none'
    )


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int


def test_what_a_function_fails_with_keeps_its_type_and_loses_its_secrets() -> None:
    @direct(Question)
    def handler(question: Question) -> dict[str, Any]:
        raise LookupError(f"no {OPAQUE} for ada@example.org")

    with pytest.raises(Exception, match="no <redacted> for mail:") as raised:
        handler({"number": 1}, Context())
    assert type(raised.value).__name__ == "LookupError"

    with pytest.raises(Exception, match="input_value=<redacted>") as raised:
        handler({"number": "hunter2"}, Context())
    assert type(raised.value).__name__ == "ValidationError"
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_an_error_without_secrets_is_raised_as_it_is() -> None:
    error = NotFoundError("There is no event 7.")
    error.__cause__ = KeyError(7)

    @scheduled
    def handler(_run: Any) -> None:
        raise error

    with pytest.raises(NotFoundError) as raised:
        handler({}, Context())
    assert raised.value is error
    assert isinstance(error.__cause__, KeyError)
