from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from eventsplatform.errors import ForbiddenError
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.model import Credentials, SignUp
from eventsplatform.identity.passwords import Argon2Passwords
from tests.support.callers import caller


def registration(**changes: Any) -> SignUp:
    return SignUp.model_validate(
        {"email": "ada@example.org", "password": "correct horse", "name": "Ada Lovelace", **changes}
    )


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"password": "x" * 11}, "password"),
        ({"password": "x" * 129}, "password"),
        ({"password": "x" * 12 + "\ud800"}, "password"),
        ({"name": " "}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "Ada\0"}, "name"),
        ({"name": "Ada\u202egro"}, "name"),
        ({"email": "ada"}, "email"),
        ({"email": "ada@"}, "email"),
        ({"email": "ada\0@example.org"}, "email"),
        ({"email": "x" * 250 + "@example.org"}, "email"),
        ({"role": "admin"}, "role"),
    ],
)
def test_a_registration_that_breaks_a_rule_is_refused_where_it_does(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as error:
        registration(**changes)

    assert [problem["loc"] for problem in error.value.errors()] == [(where,)]


@pytest.mark.parametrize("password", ["x" * 12, "x" * 128, "пароль из слов", "\0" * 12])
def test_a_password_may_have_any_characters(password: str) -> None:
    assert registration(password=password).password.get_secret_value() == password


def test_a_password_typed_on_another_keyboard_is_the_same() -> None:
    composed = registration(password="café au lait!").password.get_secret_value()
    decomposed = registration(password="cafe\u0301 au lait!").password.get_secret_value()

    assert composed == decomposed
    passwords = Argon2Passwords(memory_kib=64, passes=1)
    assert passwords.matches(passwords.hash(composed), "cafe\u0301 au lait!")


def test_passwords_are_hashed_as_owasp_asks() -> None:
    """Argon2id with 19 MiB, two passes and one lane, and a salt of its own for each."""
    first, second = (Argon2Passwords().hash("correct horse battery") for _ in range(2))

    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    assert not Argon2Passwords().is_outdated(first)
    assert Argon2Passwords(memory_kib=47_104, passes=1).is_outdated(first)


def test_the_domain_of_an_address_is_lower_case_and_its_local_part_as_written() -> None:
    assert registration(email="Ada@EXAMPLE.org").email == "Ada@example.org"


def test_names_keep_the_joiners_that_their_languages_need() -> None:
    assert registration(name="علی\u200cرضا").name == "علی\u200cرضا"


def test_a_password_never_shows_in_what_is_printed() -> None:
    assert "correct horse" not in repr(registration())


def test_signing_in_takes_passwords_of_any_sensible_length() -> None:
    assert Credentials.model_validate({"email": "ada@example.org", "password": "short"})
    with pytest.raises(ValidationError):
        Credentials.model_validate({"email": "ada@example.org", "password": "x" * 1_025})
    with pytest.raises(ValidationError):
        Credentials.model_validate({"email": "ada@example.org", "password": "\ud800"})


def test_nobody_signs_in_to_an_account_that_does_not_exist() -> None:
    passwords = Argon2Passwords(memory_kib=64, passes=1)

    assert not passwords.matches(None, "no account has this password")
    assert not passwords.matches("not a hash", "anything")


@pytest.mark.parametrize("verified", [True, False])
def test_a_caller_survives_the_authorizer_context(verified: bool) -> None:
    ada = caller(7, "events:read", "users:manage", role="admin", verified=verified)

    context = ada.as_context()

    assert Caller.from_context(context) == ada
    assert all(isinstance(value, str) for value in context.values())


def test_a_caller_without_the_permission_is_refused_by_its_name() -> None:
    ada = caller(7, "events:read")

    ada.require("events:read")
    with pytest.raises(ForbiddenError, match="users:manage"):
        ada.require("users:manage")
