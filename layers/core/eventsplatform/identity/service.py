"""Signing up and signing in."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Protocol

from eventsplatform.clock import Clock
from eventsplatform.errors import ConflictError, NotFoundError, UnauthenticatedError
from eventsplatform.identity import messages
from eventsplatform.identity.model import Credentials, Session, SignUp, User, UserSummary
from eventsplatform.identity.tokens import LIFETIME, AccessTokenIssuer
from eventsplatform.messaging.model import Work

REFRESH_LIFETIME = timedelta(days=30)
SESSION_LIFETIME = timedelta(days=90)


class Passwords(Protocol):
    """Password hashing: argon2id outside of unit tests."""

    def hash(self, password: str) -> str: ...

    def matches(self, encoded: str | None, password: str) -> bool:
        """False for a wrong password; with `None` for the hash it does the same work and returns False."""


class EmailTakenError(Exception):
    """Raised by the store when the address already has an account."""


class IdentityStore(Protocol):
    def add_user(self, sign_up: SignUp, password_hash: str) -> tuple[User, int]:
        """The new user and its version. Raises EmailTakenError."""

    def find_credentials(self, email: str) -> tuple[User, str, int] | None:
        """The user, the password's hash and the user's token generation."""

    def find_summary(self, user_id: int) -> UserSummary | None: ...

    def add_session(self, session_id: uuid.UUID, user_id: int, expires_at: datetime) -> None: ...

    def add_refresh_token(
        self, session_id: uuid.UUID, user_id: int, token_hash: bytes, expires_at: datetime
    ) -> None: ...


class Identity:
    def __init__(
        self, work: Work[IdentityStore], passwords: Passwords, tokens: AccessTokenIssuer, clock: Clock
    ) -> None:
        self._work = work
        self._passwords = passwords
        self._tokens = tokens
        self._clock = clock

    def register(self, sign_up: SignUp) -> User:
        """Open an account. Raises ConflictError when the address already has one."""
        password_hash = self._passwords.hash(sign_up.password.get_secret_value())
        try:
            with self._work() as (store, outbox):
                user, version = store.add_user(sign_up, password_hash)
                outbox.append(messages.user_created(UserSummary(id=user.id, name=user.name, version=version)))
        except EmailTakenError as error:
            raise ConflictError("This e-mail address already has an account.") from error
        return user

    def login(self, credentials: Credentials) -> Session:
        """Open a session. Raises UnauthenticatedError, the same after the same work for an unknown account."""
        with self._work.statement() as store:
            found = store.find_credentials(credentials.email)
        user, password_hash, generation = found or (None, None, 0)
        if not self._passwords.matches(password_hash, credentials.password.get_secret_value()) or user is None:
            raise UnauthenticatedError("The e-mail address or the password is wrong.")
        refresh_token = secrets.token_urlsafe(32)
        now, session_id = self._clock(), uuid.uuid4()
        with self._work() as (store, _outbox):
            store.add_session(session_id, user.id, now + SESSION_LIFETIME)
            token_hash = hashlib.sha256(refresh_token.encode()).digest()
            store.add_refresh_token(session_id, user.id, token_hash, now + REFRESH_LIFETIME)
        return Session(
            access_token=self._tokens.issue(user, session_id=str(session_id), generation=generation),
            refresh_token=refresh_token,
            expires_in=int(LIFETIME.total_seconds()),
            user=user,
        )

    def describe(self, user_id: int) -> UserSummary:
        """What other services may know of a user. Raises NotFoundError."""
        with self._work.statement() as store:
            summary = store.find_summary(user_id)
        if summary is None:
            raise NotFoundError(f"There is no user {user_id}.")
        return summary
