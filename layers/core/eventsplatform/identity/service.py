"""Accounts: signing up, confirming the address, passwords; and what other services may know of a user.

Nobody learns from these whether an address has an account: known and unknown ones are answered alike after the same
work, and what differs is told by mail to whoever owns the address.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

from pydantic import SecretStr

from eventsplatform.clock import Clock
from eventsplatform.errors import (
    ConflictError,
    DependencyUnavailableError,
    FieldError,
    InvalidInputError,
    NotFoundError,
    UnauthenticatedError,
)
from eventsplatform.identity import messages
from eventsplatform.identity.account_mails import MailRequest, Purpose
from eventsplatform.identity.caller import Caller, Client
from eventsplatform.identity.model import (
    Account,
    PasswordChange,
    PasswordReset,
    RegistrationReceived,
    Session,
    SignUp,
    User,
    UserSummary,
)
from eventsplatform.identity.sessions import NewRefreshToken, Passwords, Revocations, SessionTokens, hash_token
from eventsplatform.identity.sign_in_limits import SignInLimits, network_of
from eventsplatform.identity.weak_passwords import weakness
from eventsplatform.messaging.model import Appendable, AuditRecord, Work

__all__ = ["Identity", "IdentityStore", "Passwords"]


class Mailbox(Protocol):
    def request(self, mail: MailRequest) -> None:
        """Hand over, without waiting for the mail. Raises DependencyUnavailableError."""


@dataclass(frozen=True)
class NewAccount:
    """What an account begins as: `sign_up` under the hash of its password."""

    sign_up: SignUp
    password_hash: str
    verified_at: datetime | None


@dataclass(frozen=True)
class PendingSignUp:
    """A sign-up that is being confirmed, and the account of its address, locked until the transaction ends."""

    id: UUID
    name: str
    password_hash: str
    account: Account


class IdentityStore(Protocol):
    def add_sign_up(self, sign_up_id: UUID, sign_up: SignUp, password_hash: str, now: datetime) -> None: ...

    def add_user(self, account: NewAccount) -> UserSummary | None:
        """None when the address has an account."""

    def find_user(self, user_id: int) -> User | None: ...

    def find_account_of(self, user_id: int, network: str) -> Account | None: ...

    def find_summary(self, user_id: int) -> UserSummary | None: ...

    def find_reset_account(self, token_hash: bytes, now: datetime) -> Account | None:
        """Whose password the token may set."""

    def spend_verification(self, token_hash: bytes, now: datetime) -> PendingSignUp | None:
        """The token can't be used again. None for one that is none, expired or spent."""

    def spend_reset(self, token_hash: bytes, now: datetime) -> Account | None:
        """As `spend_verification`; the account is locked until the transaction ends."""

    def confirm(self, user_id: int, now: datetime) -> UserSummary:
        """The address is its owner's. All sign-ups of the address have had their time."""

    def take_over(self, user_id: int, name: str, password_hash: str) -> None:
        """Give the account the name and the password of another sign-up."""

    def set_password(self, user_id: int, password_hash: str) -> None:
        """Links for setting it anew that are under way have had their time."""

    def next_generation(self, user_id: int) -> int:
        """From here on every access token issued so far is refused."""

    def end_sessions(self, user_id: int, reason: str, *, but: UUID | None = None) -> None: ...

    def lock_account(self, user_id: int) -> Account | None: ...

    def live_session_until(self, session_id: UUID) -> datetime | None:
        """When it ends, and it is locked until the transaction does. None for one that has ended."""

    def rotate_token(self, session_id: UUID, client: Client, token: NewRefreshToken) -> None: ...

    def know_network(self, user_id: int, network: str, now: datetime) -> None: ...


class Identity:
    def __init__(
        self,
        work: Work[IdentityStore],
        passwords: Passwords,
        tokens: SessionTokens,
        limits: SignInLimits,
        revocations: Revocations,
        mailbox: Mailbox,
        clock: Clock,
    ) -> None:
        self._work = work
        self._passwords = passwords
        self._tokens = tokens
        self._limits = limits
        self._revocations = revocations
        self._mailbox = mailbox
        self._clock = clock

    def register(self, sign_up: SignUp) -> RegistrationReceived:
        """Take a sign-up. What comes of it is told by mail. Raises InvalidInputError for a weak password."""
        _check_strength(sign_up.password, "/password", sign_up.email, sign_up.name)
        password_hash = self._passwords.hash(sign_up.password.get_secret_value())
        sign_up_id = uuid4()

        def change(store: IdentityStore, outbox: Appendable) -> UUID:
            store.add_sign_up(sign_up_id, sign_up, password_hash, self._clock())
            added = store.add_user(NewAccount(sign_up, password_hash, verified_at=None))
            if added is not None:
                outbox.append(messages.user_created(added))
            else:
                outbox.wake_relay()
            return sign_up_id

        recorded = self._work.run(UUID, change)
        self._mailbox.request(MailRequest(request_id=recorded, purpose="sign_up", email=sign_up.email))
        return RegistrationReceived(email=sign_up.email, name=sign_up.name)

    def verify(self, token: str, client: Client) -> User:
        """Confirm the address that the token was sent to.

        The account gets the name and the password of the sign-up that the mail answered: whoever signed up with
        someone's address before them is left with nothing. Raises InvalidInputError for a token that is no good.
        """

        def change(store: IdentityStore, outbox: Appendable) -> tuple[int, int | None]:
            now = self._clock()
            pending = store.spend_verification(hash_token(token), now)
            if pending is None or pending.account.user.status != "active" or pending.account.user.email_verified:
                raise _unusable_token()
            user_id = pending.account.user.id
            generation = None
            if pending.password_hash != pending.account.password_hash:
                store.take_over(user_id, pending.name, pending.password_hash)
                generation = store.next_generation(user_id)
                store.end_sessions(user_id, "verification")
            store.know_network(user_id, network_of(client.address), now)
            outbox.append(messages.user_updated(store.confirm(user_id, now), user_id))
            return user_id, generation

        user_id, generation = self._work.run(tuple[int, int | None], change)
        if generation is not None:
            self._revocations.end_user(user_id, generation)
        return self._user(user_id)

    def resend_verification(self, email: str) -> None:
        """Have the mail sent again, to an address that waits for being confirmed."""
        self._request_mail("resend", email)

    def change_password(self, change_of: PasswordChange, caller: Caller, client: Client) -> Session:
        """Set another password, and end all other sessions. This one goes on with the new tokens that are returned.

        Raises InvalidInputError for a wrong or a weak password, RateLimitedError after too many wrong ones.
        """
        old, new = change_of.current_password.get_secret_value(), change_of.new_password.get_secret_value()
        with self._work.statement() as store:
            account = store.find_account_of(caller.user_id, network_of(client.address))
        if account is None:
            raise _no_such_user(caller.user_id)
        _check_strength(change_of.new_password, "/new_password", account.user.email, account.user.name)
        # Who holds a stolen token could guess here as well as at the front door.
        attempt = self._limits.begin(account.user.email, client.address, known=account.known_network)
        if not self._passwords.matches(account.password_hash, old):
            raise InvalidInputError([FieldError("/current_password", "is not the current password")])
        self._limits.forgive(attempt)
        password_hash, tokens = self._passwords.hash(new), self._tokens.read_keys()

        def change(store: IdentityStore, outbox: Appendable) -> tuple[int, Session]:
            locked = store.lock_account(caller.user_id)
            if locked is None or locked.password_hash != account.password_hash or locked.user.status != "active":
                raise ConflictError("The account has changed in the meantime; try again.")
            session_id = UUID(caller.session_id)
            until = store.live_session_until(session_id)
            if until is None:
                raise UnauthenticatedError("This session has ended; sign in again.")
            store.set_password(caller.user_id, password_hash)
            generation = store.next_generation(caller.user_id)
            store.end_sessions(caller.user_id, "password_changed", but=session_id)
            session, kept = tokens.make(
                locked.user, session_id=session_id, generation=generation, session_expires_at=until
            )
            store.rotate_token(session_id, client, kept)
            outbox.record(AuditRecord("user.password_changed", "user", caller.user_id, caller.user_id))
            return generation, session

        generation, session = self._work.run(tuple[int, Session], change)
        self._revocations.end_user(caller.user_id, generation)
        self._tell_of_change(account.user.email)
        return session

    def request_password_reset(self, email: str) -> None:
        """Have a link for setting the password anew sent, if the address has an account."""
        self._request_mail("password_reset", email)

    def reset_password(self, reset: PasswordReset, client: Client) -> None:
        """Set the password of whom the token was sent to, and end all their sessions.

        Reading the mail proves that the address is theirs, and that they are where they are.
        Raises InvalidInputError for a weak password or a token that is no good.
        """
        token_hash = hash_token(reset.token.get_secret_value())
        with self._work.statement() as store:
            found = store.find_reset_account(token_hash, self._clock())
        password_hash = ""
        if found is not None:
            _check_strength(reset.password, "/password", found.user.email, found.user.name)
            password_hash = self._passwords.hash(reset.password.get_secret_value())

        def change(store: IdentityStore, outbox: Appendable) -> tuple[int, int]:
            now = self._clock()
            # Only here, where a repeat of the request that spent the token is given that one's answer.
            account = store.spend_reset(token_hash, now) if password_hash else None
            if account is None or account.user.status == "erased":
                raise _unusable_token()
            user_id = account.user.id
            store.set_password(user_id, password_hash)
            generation = store.next_generation(user_id)
            store.end_sessions(user_id, "password_reset")
            store.know_network(user_id, network_of(client.address), now)
            if not account.user.email_verified:
                outbox.append(messages.user_updated(store.confirm(user_id, now), user_id))
            outbox.record(AuditRecord("user.password_reset", "user", user_id, user_id))
            return user_id, generation

        user_id, generation = self._work.run(tuple[int, int], change)
        self._revocations.end_user(user_id, generation)
        if found is not None:
            self._tell_of_change(found.user.email)

    def _request_mail(self, purpose: Purpose, email: str) -> None:
        """A repeat of the client's request asks for the same mail again, which is sent once."""
        request_id = self._work.run(UUID, lambda _store, _outbox: uuid4())
        self._mailbox.request(MailRequest(request_id=request_id, purpose=purpose, email=email))

    def _tell_of_change(self, email: str) -> None:
        """The owner, in case it was not the owner; the change stands whether or not the mail is on its way."""
        with suppress(DependencyUnavailableError):
            self._mailbox.request(MailRequest(request_id=uuid4(), purpose="password_changed", email=email))

    def _user(self, user_id: int) -> User:
        with self._work.statement() as store:
            user = store.find_user(user_id)
        if user is None:
            raise _no_such_user(user_id)
        return user


class UserDirectory:
    """What other services may ask."""

    def __init__(self, work: Work[IdentityStore]) -> None:
        self._work = work

    def describe(self, user_id: int) -> UserSummary:
        """What other services may know of a user. Raises NotFoundError."""
        with self._work.statement() as store:
            summary = store.find_summary(user_id)
        if summary is None:
            raise _no_such_user(user_id)
        return summary


class AccountOpening:
    """Accounts whose address needs no mail to be believed: those that operators open, and the demo data's."""

    def __init__(self, work: Work[IdentityStore], passwords: Passwords, clock: Clock) -> None:
        self._work = work
        self._passwords = passwords
        self._clock = clock

    def open(self, sign_up: SignUp) -> User:
        """Raises ConflictError when the address has an account, InvalidInputError for a weak password."""
        _check_strength(sign_up.password, "/password", sign_up.email, sign_up.name)
        password_hash = self._passwords.hash(sign_up.password.get_secret_value())
        with self._work() as (store, outbox):
            added = store.add_user(NewAccount(sign_up, password_hash, verified_at=self._clock()))
            if added is None:
                raise ConflictError("This e-mail address already has an account.")
            outbox.append(messages.user_created(added))
            user = store.find_user(added.id)
        assert user is not None
        return user


def _check_strength(password: SecretStr, pointer: str, email: str, name: str) -> None:
    """Raises InvalidInputError for a password that would be guessed."""
    reason = weakness(password.get_secret_value(), (email, email.partition("@")[0], name))
    if reason is not None:
        raise InvalidInputError([FieldError(pointer, f"{reason}; choose another one")])


def _unusable_token() -> InvalidInputError:
    return InvalidInputError([FieldError("/token", "is not valid, has been used or has expired; ask for another mail")])


def _no_such_user(user_id: int) -> NotFoundError:
    return NotFoundError(f"There is no user {user_id}.")
