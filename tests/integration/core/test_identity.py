from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from eventsplatform.clock import utc_now
from eventsplatform.errors import ConflictError, NotFoundError, UnauthenticatedError
from eventsplatform.identity.model import Credentials, Session, SignUp, User
from eventsplatform.identity.tokens import AccessTokenVerifier
from tests.support.callers import caller
from tests.support.database import AUDIENCE, ISSUER, KEYS, Services, administrator, event_in, services

PASSWORD = "correct horse battery"
numbers = itertools.count(1)


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@pytest.fixture
def email() -> str:
    return f"Ada.{os.getpid()}.{next(numbers)}@Example.org"


def sign_up(running: Services, email: str, **changes: Any) -> User:
    return running.identity.register(
        SignUp.model_validate({"email": email, "password": PASSWORD, "name": "Ada", **changes})
    )


def sign_in(running: Services, email: str, password: str = PASSWORD) -> Session:
    return running.identity.login(Credentials(email=email, password=SecretStr(password)))


def test_whoever_signed_up_can_sign_in_and_is_known_by_the_token(running: Services, email: str) -> None:
    user = sign_up(running, email)

    session = sign_in(running, email)

    known = AccessTokenVerifier(lambda: KEYS, issuer=ISSUER, audience=AUDIENCE).verify(session.access_token)
    assert (known.user_id, known.role) == (user.id, "user")
    assert known.permissions == {"events:read", "events:create", "events:update", "events:delete"}
    assert session.user == user


def test_an_address_has_one_account_in_whatever_case_it_is_written(running: Services, email: str) -> None:
    user = sign_up(running, email)

    for same in (email.lower(), email.upper()):
        with pytest.raises(ConflictError):
            sign_up(running, same)
        assert sign_in(running, same).user.id == user.id


def test_addresses_that_differ_in_more_than_case_are_different(running: Services, email: str) -> None:
    first = sign_up(running, email)

    assert sign_up(running, f"x{email}").id != first.id


def test_a_wrong_password_and_an_unknown_account_are_refused_alike(running: Services, email: str) -> None:
    sign_up(running, email)

    with pytest.raises(UnauthenticatedError) as wrong:
        sign_in(running, email, PASSWORD + "!")
    with pytest.raises(UnauthenticatedError) as unknown:
        sign_in(running, f"nobody-{email}")

    assert wrong.value.detail == unknown.value.detail


@pytest.mark.parametrize("password", ["пароль из слов", "pass\0word with NUL", "x" * 128, "🐎🔋📎 and more words"])
def test_any_password_that_is_accepted_opens_the_account(running: Services, email: str, password: str) -> None:
    sign_up(running, email, password=password)

    assert sign_in(running, email, password)
    with pytest.raises(UnauthenticatedError):
        sign_in(running, email, password[:-1])


def test_nothing_is_kept_that_could_be_used_to_sign_in(running: Services, migrated_database: str, email: str) -> None:
    user = sign_up(running, email)
    session = sign_in(running, email)

    with administrator(migrated_database) as connection:
        account = connection.execute("SELECT * FROM identity.users WHERE id = %s", (user.id,)).fetchone()
        (token,) = connection.execute("SELECT * FROM identity.refresh_tokens WHERE user_id = %s", (user.id,)).fetchall()

    assert account is not None
    assert account["password_hash"].startswith("$argon2id$")
    assert PASSWORD not in str(account)
    assert session.refresh_token not in str(token)
    assert bytes(token["token_hash"]) == hashlib.sha256(session.refresh_token.encode()).digest()
    assert token["expires_at"] - utc_now() > timedelta(days=29)


def test_other_services_learn_a_name_and_nothing_more(running: Services, email: str) -> None:
    user = sign_up(running, email)

    assert running.identity.describe(user.id).model_dump() == {"id": user.id, "name": "Ada", "version": 1}
    with pytest.raises(NotFoundError):
        running.identity.describe(2**62)


def test_the_catalog_keeps_the_latest_name_of_an_organiser(running: Services) -> None:
    organizer = 500_000 + os.getpid() % 100_000
    running.catalog.learn_user(organizer, "Ada Lovelace", 3)
    running.catalog.learn_user(organizer, "Ada Byron", 2)

    assert running.catalog.create(event_in(), caller(organizer)).organizer.name == "Ada Lovelace"
