"""Accounts: signing up, confirming the address, passwords."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from eventsplatform.clock import utc_now
from eventsplatform.errors import (
    ConflictError,
    DependencyUnavailableError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    RateLimitedError,
    UnauthenticatedError,
)
from eventsplatform.idempotency import NamedRequest, handling_request
from eventsplatform.identity.account_mails import MAILS_PER_HOUR, AccountMails, MailRequest
from eventsplatform.identity.caller import Caller, Client
from eventsplatform.identity.model import Credentials, PasswordChange, PasswordReset, Session, SignUp, User
from eventsplatform.identity.passwords import Argon2Passwords
from eventsplatform.identity.repository import PostgresIdentity
from eventsplatform.identity.sessions import hash_token
from eventsplatform.identity.tokens import AccessTokenVerifier
from eventsplatform.mail import Mail
from tests.support.callers import caller
from tests.support.database import (
    AUDIENCE,
    ISSUER,
    KEYS,
    PASSWORDS,
    WEB_URL,
    Services,
    administrator,
    event_in,
    services,
)

PASSWORD = "correct horse battery"
ANOTHER = "a quieter horse with two batteries"
HOME, ELSEWHERE = Client("203.0.113.7", "Firefox"), Client("198.51.100.9", "curl")
numbers = itertools.count(1)


class CountingPasswords:
    """The passwords of the other tests, and how often the costly part was done."""

    def __init__(self) -> None:
        self.hashed = self.matched = 0

    def hash(self, password: str) -> str:
        self.hashed += 1
        return PASSWORDS.hash(password)

    def matches(self, encoded: str | None, password: str) -> bool:
        self.matched += 1
        return PASSWORDS.matches(encoded, password)

    def is_outdated(self, encoded: str) -> bool:
        return PASSWORDS.is_outdated(encoded)


@pytest.fixture
def running(migrated_database: str) -> Iterator[Services]:
    with services(migrated_database) as built:
        yield built


@pytest.fixture
def email() -> str:
    return f"Ada.{os.getpid()}.{next(numbers)}@Example.org"


def sign_up(running: Services, email: str, password: str = PASSWORD, name: str = "Ada") -> None:
    running.identity.register(SignUp.model_validate({"email": email, "password": password, "name": name}))


def open_account(running: Services, email: str, password: str = PASSWORD) -> User:
    return running.accounts.open(SignUp.model_validate({"email": email, "password": password, "name": "Ada"}))


def sign_in(running: Services, email: str, password: str = PASSWORD, client: Client = HOME) -> Session:
    return running.sessions.login(Credentials(email=email, password=SecretStr(password)), client)


def caller_of(session: Session) -> Caller:
    return AccessTokenVerifier(lambda: KEYS, issuer=ISSUER, audience=AUDIENCE).verify(session.access_token)


def is_live(running: Services, session: Session) -> bool:
    who = caller_of(session)
    return running.session_check.check(who.user_id, who.session_id, who.token_id, who.generation).live


def token_in(mail: Mail) -> str:
    return mail.text.partition("#token=")[2].split()[0]


def mailed(running: Services) -> Mail:
    (mail,) = running.mailbox.deliver(running.mails)
    return mail


def verify(running: Services, token: str) -> User:
    return running.identity.verify(token, HOME)


def rows(url: str, statement: str, *values: Any) -> list[dict[str, Any]]:
    with administrator(url) as connection:
        return connection.execute(statement, values).fetchall()


# ------------------------------------------------------------------------------------------ signing up


def test_who_signs_up_is_sent_a_link_and_confirms_the_address_with_it(running: Services, email: str) -> None:
    sign_up(running, email)
    before = sign_in(running, email).user

    mail = mailed(running)
    user = verify(running, token_in(mail))

    assert mail.to == before.email == email.replace("Example", "example")
    assert f"{WEB_URL}/verify#token=" in mail.text
    assert (before.email_verified, user.email_verified) == (False, True)
    assert sign_in(running, email).user == user


def test_a_known_and_an_unknown_address_are_answered_alike_after_the_same_work(
    migrated_database: str, email: str
) -> None:
    counting = CountingPasswords()
    with services(migrated_database, passwords=counting) as running:
        answers, work = [], []
        for _ in range(2):
            hashed, poked, asked = counting.hashed, len(running.poked), len(running.mailbox.requests)
            received = running.identity.register(
                SignUp.model_validate({"email": email, "password": PASSWORD, "name": "Ada"})
            )
            answers.append(received)
            work.append((counting.hashed - hashed, len(running.poked) - poked, len(running.mailbox.requests) - asked))

    assert answers[0] == answers[1]
    assert work == [(1, 1, 1), (1, 1, 1)]


def test_whose_address_has_an_account_is_told_so_and_nothing_changes(running: Services, email: str) -> None:
    open_account(running, email)

    sign_up(running, email.upper(), ANOTHER, "Somebody Else")
    mail = mailed(running)

    assert mail.subject == "You already have an account"
    assert "token" not in mail.text
    assert "Somebody" not in mail.text
    assert sign_in(running, email).user.name == "Ada"
    with pytest.raises(UnauthenticatedError):
        sign_in(running, email, ANOTHER)


def test_who_signed_up_with_anothers_address_first_gains_nothing(running: Services, email: str) -> None:
    """Pre-hijacking: https://www.usenix.org/conference/usenixsecurity22/presentation/sudhodanan."""
    # Given someone who signs up with the address of Ada, and is signed in
    sign_up(running, email, "the password of mallory", "Mallory")
    running.mailbox.deliver(running.mails)
    intruder = sign_in(running, email, "the password of mallory", ELSEWHERE)

    # When Ada signs up herself and confirms her address
    sign_up(running, email)
    user = verify(running, token_in(mailed(running)))

    # Then the account is hers: her name, her password alone, and nobody else signed in
    assert user.name == "Ada"
    assert sign_in(running, email)
    with pytest.raises(UnauthenticatedError):
        sign_in(running, email, "the password of mallory", ELSEWHERE)
    assert not is_live(running, intruder)
    assert running.revoked.users[user.id] == 2
    with pytest.raises(UnauthenticatedError):
        running.sessions.refresh(intruder.refresh_token, ELSEWHERE)


def test_without_the_taking_over_who_signed_up_first_would_share_the_account(
    running: Services, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    monkeypatch.setattr(PostgresIdentity, "take_over", lambda *_: None)
    sign_up(running, email, "the password of mallory", "Mallory")
    running.mailbox.deliver(running.mails)
    sign_up(running, email)
    verify(running, token_in(mailed(running)))

    assert sign_in(running, email, "the password of mallory", ELSEWHERE)


def test_the_link_of_an_earlier_sign_up_is_of_no_use_once_the_address_is_confirmed(
    running: Services, email: str
) -> None:
    sign_up(running, email, "the password of mallory", "Mallory")
    first = token_in(mailed(running))
    sign_up(running, email)
    verify(running, token_in(mailed(running)))

    with pytest.raises(InvalidInputError):
        verify(running, first)
    assert sign_in(running, email).user.name == "Ada"


def test_two_links_followed_at_the_same_time_confirm_the_address_once(migrated_database: str, email: str) -> None:
    with services(migrated_database) as running:
        tokens = []
        for password in (PASSWORD, ANOTHER):
            sign_up(running, email, password)
            tokens.append(token_in(mailed(running)))
    outcomes: list[str] = []

    def follow(token: str) -> None:
        with services(migrated_database) as own:
            try:
                verify(own, token)
                outcomes.append("confirmed")
            except InvalidInputError:
                outcomes.append("refused")

    threads = [threading.Thread(target=follow, args=(token,)) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["confirmed", "refused"]


def test_a_password_changed_before_the_address_is_confirmed_stays_changed(running: Services, email: str) -> None:
    sign_up(running, email)
    token = token_in(mailed(running))
    running.identity.change_password(change(PASSWORD, ANOTHER), caller_of(sign_in(running, email)), HOME)

    verify(running, token)

    assert sign_in(running, email, ANOTHER).user.email_verified


@pytest.mark.parametrize("password", ["password1234", "PasswordPassword", "ada.ada.ada.1815", "qwertyuiop12"])
def test_a_password_that_is_guessed_first_is_refused(running: Services, email: str, password: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        sign_up(running, email, password)

    assert [error.pointer for error in refused.value.errors] == ["/password"]
    assert not running.mailbox.requests


# ------------------------------------------------------------------------------------------ mails


def test_a_mail_asked_for_twice_is_sent_once(running: Services, email: str) -> None:
    """Lambda delivers an asynchronous invocation at least once."""
    sign_up(running, email)
    request = running.mailbox.requests[0]

    assert [running.mails.send(request), running.mails.send(request)] == ["sent", "sent_before"]


def test_a_mail_that_was_lost_is_asked_for_again(running: Services, email: str) -> None:
    sign_up(running, email)
    running.mailbox.requests.clear()

    running.identity.resend_verification(email.upper())

    assert verify(running, token_in(mailed(running))).email_verified


def test_a_mail_is_tried_again_after_the_mail_service_was_down(running: Services, email: str) -> None:
    sign_up(running, email)
    request = running.mailbox.requests.pop()

    def fail(_mail: Mail) -> None:
        raise DependencyUnavailableError("mail service")

    with pytest.raises(DependencyUnavailableError):
        AccountMails(running.mails._work, fail, WEB_URL, utc_now).send(request)

    assert running.mails.send(request) == "sent"


@pytest.mark.parametrize("purpose", ["resend", "password_reset", "password_changed", "sign_up"])
def test_an_address_without_an_account_is_sent_nothing(running: Services, email: str, purpose: Any) -> None:
    request = MailRequest(request_id=uuid4(), purpose=purpose, email=email)

    assert running.mails.send(request) == "nothing_to_send"
    assert running.mailbox.sent == []


def test_a_confirmed_address_is_not_asked_to_confirm_again(running: Services, email: str) -> None:
    open_account(running, email)

    running.identity.resend_verification(email)

    assert running.mailbox.deliver(running.mails) == []


def test_a_mailbox_is_not_flooded(running: Services, email: str) -> None:
    open_account(running, email)

    for _ in range(MAILS_PER_HOUR + 3):
        running.identity.request_password_reset(email)
    flood = running.mailbox.deliver(running.mails)
    sign_up(running, email)

    assert len(flood) == MAILS_PER_HOUR
    assert mailed(running).subject == "You already have an account"


def test_a_request_for_a_mail_that_is_repeated_under_its_key_is_answered_with_one_mail(
    running: Services, email: str
) -> None:
    open_account(running, email)
    for _ in range(3):
        named = NamedRequest.of(
            caller="203.0.113.7", method="POST", path="/v1/auth/password/forgot", key=email, content=b"", secret=False
        )
        with handling_request(named):
            running.identity.request_password_reset(email)

    assert len(running.mailbox.deliver(running.mails)) == 1


# ------------------------------------------------------------------------------------------ one-time tokens


@pytest.mark.parametrize("purpose", ["verify", "reset-password"])
def test_a_token_works_once_within_the_hour(migrated_database: str, email: str, purpose: str) -> None:
    now = [utc_now()]
    with services(migrated_database, clock=lambda: now[0]) as running:

        def fresh_token() -> str:
            if purpose == "verify":
                address = f"{next(numbers)}-{email}"
                sign_up(running, address)
            else:
                address = open_account(running, f"{next(numbers)}-{email}").email
                running.identity.request_password_reset(address)
            return token_in(mailed(running))

        def use(token: str) -> None:
            if purpose == "verify":
                verify(running, token)
            else:
                running.identity.reset_password(reset(token), HOME)

        used, late, in_time = fresh_token(), fresh_token(), fresh_token()
        use(used)
        now[0] += timedelta(minutes=59)
        use(in_time)
        now[0] += timedelta(minutes=1)

        for token in (used, late, "forged"):
            with pytest.raises(InvalidInputError) as refused:
                use(token)
            assert [error.pointer for error in refused.value.errors] == ["/token"]


def test_a_token_is_of_no_use_for_another_purpose(running: Services, email: str) -> None:
    sign_up(running, email)
    verification = token_in(mailed(running))
    running.identity.request_password_reset(email)
    resetting = token_in(mailed(running))

    with pytest.raises(InvalidInputError):
        verify(running, resetting)
    with pytest.raises(InvalidInputError):
        running.identity.reset_password(reset(verification), HOME)

    assert verify(running, verification)


def test_tokens_are_kept_as_hashes_of_256_random_bits(running: Services, migrated_database: str, email: str) -> None:
    sign_up(running, email)
    token = token_in(mailed(running))

    (kept,) = rows(migrated_database, "SELECT * FROM identity.one_time_tokens WHERE token_hash = %s", hash_token(token))

    assert len(token) == 43
    assert token not in str(kept)
    assert kept["expires_at"] - kept["created_at"] <= timedelta(hours=1)


# ------------------------------------------------------------------------------------------ passwords


def change(old: str, new: str) -> PasswordChange:
    return PasswordChange.model_validate({"current_password": old, "new_password": new})


def reset(token: str, password: str = ANOTHER) -> PasswordReset:
    return PasswordReset.model_validate({"token": token, "password": password})


def test_changing_the_password_ends_all_other_sessions_and_goes_on_in_this_one(running: Services, email: str) -> None:
    user = open_account(running, email)
    here, elsewhere = sign_in(running, email), sign_in(running, email, client=ELSEWHERE)

    session = running.identity.change_password(change(PASSWORD, ANOTHER), caller_of(here), HOME)

    assert caller_of(session).session_id == caller_of(here).session_id
    assert [is_live(running, each) for each in (session, here, elsewhere)] == [True, False, False]
    assert running.revoked.users == {user.id: 2}
    assert running.sessions.refresh(session.refresh_token, HOME)
    with pytest.raises(UnauthenticatedError):
        running.sessions.refresh(elsewhere.refresh_token, ELSEWHERE)
    assert sign_in(running, email, ANOTHER)
    with pytest.raises(UnauthenticatedError):
        sign_in(running, email)
    assert mailed(running).subject == "Your password was changed"


def test_changing_the_password_takes_the_old_one(running: Services, email: str) -> None:
    open_account(running, email)
    session = sign_in(running, email)

    with pytest.raises(InvalidInputError) as refused:
        running.identity.change_password(change("not the password", ANOTHER), caller_of(session), HOME)

    assert [error.pointer for error in refused.value.errors] == ["/current_password"]
    assert is_live(running, session)


def test_guessing_the_old_password_is_slowed_down(running: Services, email: str) -> None:
    open_account(running, email)
    who = caller_of(sign_in(running, email))

    for guess in range(5):
        with pytest.raises(InvalidInputError):
            running.identity.change_password(change(f"guess number {guess}", ANOTHER), who, HOME)

    with pytest.raises(RateLimitedError):
        running.identity.change_password(change(PASSWORD, ANOTHER), who, HOME)


def test_setting_the_password_by_mail_ends_all_sessions_and_other_links(running: Services, email: str) -> None:
    user = open_account(running, email)
    session = sign_in(running, email)
    tokens = []
    for _ in range(2):
        running.identity.request_password_reset(email)
        tokens.append(token_in(mailed(running)))

    running.identity.reset_password(reset(tokens[0]), HOME)

    assert not is_live(running, session)
    assert running.revoked.users == {user.id: 2}
    assert sign_in(running, email, ANOTHER)
    with pytest.raises(InvalidInputError):
        running.identity.reset_password(reset(tokens[1]), HOME)


def test_setting_the_password_by_mail_confirms_the_address_and_shuts_out_who_signed_up_with_it(
    running: Services, email: str
) -> None:
    sign_up(running, email, "the password of mallory")
    mail = mailed(running)
    running.identity.request_password_reset(email)

    running.identity.reset_password(reset(token_in(mailed(running))), HOME)

    assert sign_in(running, email, ANOTHER).user.email_verified
    with pytest.raises(InvalidInputError):
        verify(running, token_in(mail))


def test_a_weak_password_does_not_use_up_the_link(running: Services, email: str) -> None:
    open_account(running, email)
    running.identity.request_password_reset(email)
    token = token_in(mailed(running))

    with pytest.raises(InvalidInputError) as refused:
        running.identity.reset_password(reset(token, "password1234"), HOME)
    running.identity.reset_password(reset(token), HOME)

    assert [error.pointer for error in refused.value.errors] == ["/password"]
    assert sign_in(running, email, ANOTHER)


def test_the_answer_to_a_new_password_that_was_lost_is_given_again(running: Services, email: str) -> None:
    open_account(running, email)
    running.identity.request_password_reset(email)
    token = token_in(mailed(running))
    for _ in range(2):
        named = NamedRequest.of(
            caller="203.0.113.7", method="POST", path="/v1/auth/password/reset", key=email, content=b"", secret=True
        )
        with handling_request(named):
            running.identity.reset_password(reset(token), HOME)

    assert sign_in(running, email, ANOTHER)
    assert len(running.mailbox.deliver(running.mails)) == 1


def test_a_password_is_the_same_however_it_was_composed_when_its_hash_is_made_anew(
    migrated_database: str, email: str
) -> None:
    composed, decomposed = "caf\u00e9 au lait, s'il vous plait", "cafe\u0301 au lait, s'il vous plait"
    with services(migrated_database) as before:
        open_account(before, email, composed)

    with services(migrated_database, passwords=Argon2Passwords(memory_kib=128, passes=2)) as after:
        assert sign_in(after, email, decomposed)
        assert sign_in(after, email, composed)
        assert sign_in(after, email, decomposed)


@pytest.mark.parametrize("password", ["пароль из слов", "pass\0word with NUL", "🐎🔋📎 and more words"])
def test_any_password_that_is_accepted_opens_the_account(running: Services, email: str, password: str) -> None:
    open_account(running, email, password)

    assert sign_in(running, email, password)
    with pytest.raises(UnauthenticatedError):
        sign_in(running, email, password[:-1])


def test_a_hash_with_outdated_parameters_is_made_anew_when_its_owner_signs_in(
    migrated_database: str, email: str
) -> None:
    with services(migrated_database) as before:
        user = open_account(before, email)
    stronger = Argon2Passwords(memory_kib=128, passes=2)

    with services(migrated_database, passwords=stronger) as after:
        sign_in(after, email)
        (kept,) = rows(migrated_database, "SELECT password_hash FROM identity.users WHERE id = %s", user.id)
        assert sign_in(after, email)

    assert "m=128,t=2" in kept["password_hash"]
    assert not stronger.is_outdated(kept["password_hash"])


def test_an_unknown_account_costs_what_a_known_one_does(migrated_database: str, email: str) -> None:
    counting = CountingPasswords()
    with services(migrated_database, passwords=counting) as running:
        open_account(running, email)
        work = []
        for address in (email, f"nobody-{email}"):
            matched = counting.matched
            with pytest.raises(UnauthenticatedError) as refused:
                sign_in(running, address, "not the password")
            work.append((counting.matched - matched, refused.value.detail))

    assert work[0] == work[1]
    assert work[0][0] == 1


def test_a_hash_that_is_only_looked_at_where_there_is_one_would_be_noticed(migrated_database: str, email: str) -> None:
    """The control of the tests that count: what most code does first is told apart."""

    class Hasty(CountingPasswords):
        def matches(self, encoded: str | None, password: str) -> bool:
            return encoded is not None and super().matches(encoded, password)

    hasty = Hasty()
    with services(migrated_database, passwords=hasty) as running:
        open_account(running, email)
        work = []
        for address in (email, f"nobody-{email}"):
            matched = hasty.matched
            with pytest.raises(UnauthenticatedError):
                sign_in(running, address, "not the password")
            work.append(hasty.matched - matched)

    assert work == [1, 0]


# ------------------------------------------------------------------------------------------ accounts


def test_an_address_has_one_account_in_whatever_case_it_is_written(running: Services, email: str) -> None:
    user = open_account(running, email)

    for same in (email.lower(), email.upper()):
        with pytest.raises(ConflictError):
            open_account(running, same)
        assert sign_in(running, same).user.id == user.id
    assert open_account(running, f"x{email}").id != user.id


def test_a_suspended_account_is_refused_only_to_who_knows_its_password(
    running: Services, migrated_database: str, email: str
) -> None:
    user = open_account(running, email)
    rows(
        migrated_database,
        "UPDATE identity.users SET status = 'suspended', suspension_reason = 'Spam.' WHERE id = %s RETURNING id",
        user.id,
    )

    with pytest.raises(UnauthenticatedError):
        sign_in(running, email, "not the password")
    with pytest.raises(ForbiddenError, match=r"suspended.*Spam"):
        sign_in(running, email)


def test_nothing_is_kept_that_could_be_used_to_sign_in(running: Services, migrated_database: str, email: str) -> None:
    sign_up(running, email)
    session = sign_in(running, email)

    kept = [
        rows(migrated_database, f"SELECT * FROM identity.{table} WHERE {column} = %s", value)
        for table, column, value in (
            ("users", "id", session.user.id),
            ("sign_ups", "email", email),
            ("refresh_tokens", "user_id", session.user.id),
            ("sessions", "user_id", session.user.id),
        )
    ]

    assert kept[0][0]["password_hash"].startswith("$argon2id$")
    assert all(kept)
    assert PASSWORD not in str(kept)
    assert session.refresh_token not in str(kept)
    assert bytes(kept[2][0]["token_hash"]) == hash_token(session.refresh_token)


def test_other_services_learn_a_name_and_whether_it_is_suspended(running: Services, email: str) -> None:
    user = open_account(running, email)

    assert running.directory.describe(user.id).model_dump() == {
        "id": user.id, "name": "Ada", "version": 1, "suspended": False,
    }  # fmt: skip
    with pytest.raises(NotFoundError):
        running.directory.describe(2**62)


def test_the_catalog_keeps_the_latest_name_of_an_organiser(running: Services) -> None:
    organizer = 500_000 + os.getpid() % 100_000
    running.catalog.learn_user(organizer, "Ada Lovelace", 3)
    running.catalog.learn_user(organizer, "Ada Byron", 2)

    assert running.catalog.create(event_in(), caller(organizer)).organizer.name == "Ada Lovelace"


# ------------------------------------------------------------------------------------------ housekeeping


def test_what_has_had_its_time_is_deleted_and_nothing_else(migrated_database: str, email: str) -> None:
    now = [utc_now()]
    with services(migrated_database, clock=lambda: now[0]) as running:
        user = open_account(running, email)
        old, kept = sign_in(running, email), sign_in(running, email)
        running.sessions.logout(caller_of(old))
        sign_up(running, f"new-{email}")
        mailed(running)

        now[0] = datetime.now(UTC) + timedelta(days=2)
        early = running.housekeeping.run(lambda: True)
        now[0] = datetime.now(UTC) + timedelta(days=40)
        late = running.housekeeping.run(lambda: True)

    assert early["one_time_tokens"] >= 1
    assert early["token_blacklist"] >= 1
    assert early["sessions"] == early["refresh_tokens"] == early["sign_ups"] == 0
    assert late["refresh_tokens"] >= 2
    assert late["sessions"] >= 1
    assert late["sign_ups"] >= 1
    (left,) = rows(migrated_database, "SELECT id FROM identity.sessions WHERE user_id = %s", user.id)
    assert left["id"] == UUID(caller_of(kept).session_id)


def test_housekeeping_stops_when_its_time_is_up(running: Services, email: str) -> None:
    sign_up(running, email)

    assert set(running.housekeeping.run(lambda: False).values()) == {0}
