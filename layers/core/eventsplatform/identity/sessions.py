"""Sessions: beginning one by signing in, refreshing, listing and ending it, and whether one is live.

A session is a family of refresh tokens, of which one is live at a time; each use replaces it (RFC 9700 §4.14.2).
Access tokens name their session, so with it they end at once, at whatever endpoint.

Rows are locked in one order, so that nothing that happens to a session at the same time waits in a circle: the user,
the session, its tokens.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID, uuid4

from pydantic import BaseModel

from eventsplatform.clock import Clock
from eventsplatform.errors import ForbiddenError, NotFoundError, UnauthenticatedError
from eventsplatform.identity.caller import Caller, Client
from eventsplatform.identity.model import Account, Credentials, Session, SessionSummary, User
from eventsplatform.identity.sign_in_limits import SignInLimits, network_of
from eventsplatform.identity.tokens import LEEWAY, LIFETIME, AccessTokenIssuer
from eventsplatform.messaging.model import Appendable, AuditRecord, Work
from eventsplatform.pagination import Page, decode_cursor, encode_cursor, invalid_cursor

REFRESH_LIFETIME = timedelta(days=30)
# However often it is refreshed.
SESSION_LIFETIME = timedelta(days=90)
USER_AGENT_MAXIMUM = 300


class Passwords(Protocol):
    """Password hashing: argon2id outside of unit tests."""

    def hash(self, password: str) -> str: ...

    def matches(self, encoded: str | None, password: str) -> bool:
        """False for a wrong password; with `None` for the hash it does the same work and returns False."""

    def is_outdated(self, encoded: str) -> bool:
        """Whether the hash was made with other parameters than new ones are."""


class Revocations(Protocol):
    """Tells every endpoint what has ended; to be called when it is committed."""

    def end_session(self, session_id: str, token_id: str | None = None) -> None: ...

    def end_user(self, user_id: int, generation: int) -> None: ...


class SessionState(BaseModel):
    """`live`: the token may be used; `verified`: its account's address is confirmed by now."""

    live: bool
    verified: bool


@dataclass(frozen=True)
class NewRefreshToken:
    """What is kept of a refresh token: its hash. The token itself is told once."""

    token_hash: bytes
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class PresentedToken:
    """A refresh token that was presented, its session and its owner as they are now."""

    id: int
    spent: bool
    expires_at: datetime
    session_id: UUID
    session_ended: bool
    session_expires_at: datetime
    account: Account


class SessionStore(Protocol):
    def find_account(self, email: str, network: str) -> Account | None: ...

    def put_password_hash(self, user_id: int, password_hash: str, *, in_place_of: str) -> None: ...

    def open_session(
        self,
        session_id: UUID,
        account: Account,
        client: Client,
        network: str,
        session_expires_at: datetime,
        token: NewRefreshToken,
    ) -> bool:
        """Begin a session with its first token, in a network that is known from then on.

        False when the account is no longer as it was found: suspended, or with another password.
        """

    def present_token(self, token_hash: bytes) -> PresentedToken | None:
        """The token, its session locked until the transaction ends."""

    def rotate_token(self, session_id: UUID, client: Client, token: NewRefreshToken) -> None:
        """Spend the session's live token and add another."""

    def end_session(self, session_id: UUID, user_id: int, reason: str) -> bool:
        """False when there is no such session of the user, or it has ended."""

    def blacklist_token(self, token_id: str, user_id: int, reason: str, expires_at: datetime) -> None: ...

    def page_of_sessions(
        self, user_id: int, now: datetime, after: tuple[datetime, UUID] | None, limit: int
    ) -> Sequence[SessionSummary]:
        """The live sessions of a user, the latest first; `current` is false in all of them."""


class Refreshed(BaseModel):
    """`session` is what the client is told; without one, `ended` is the session that a spent token has ended."""

    session: Session | None = None
    ended: UUID | None = None


class SessionTokens:
    """Makes the tokens of sessions. `access_tokens` is asked for when one is made: few functions may read the keys."""

    def __init__(self, access_tokens: Callable[[], AccessTokenIssuer], clock: Clock) -> None:
        self._access_tokens = access_tokens
        self._clock = clock

    def read_keys(self) -> SessionTokens:
        """The same with its keys at hand, for use in a transaction."""
        access_tokens = self._access_tokens().read_keys()
        return SessionTokens(lambda: access_tokens, self._clock)

    def make(
        self, user: User, *, session_id: UUID, generation: int, session_expires_at: datetime
    ) -> tuple[Session, NewRefreshToken]:
        """What the client is told, and what is kept of it."""
        refresh_token, now = secrets.token_urlsafe(32), self._clock()
        session = Session(
            access_token=self._access_tokens().issue(user, session_id=str(session_id), generation=generation),
            refresh_token=refresh_token,
            expires_in=int(LIFETIME.total_seconds()),
            user=user,
        )
        return session, NewRefreshToken(hash_token(refresh_token), now, min(now + REFRESH_LIFETIME, session_expires_at))


class Sessions:
    def __init__(
        self,
        work: Work[SessionStore],
        passwords: Passwords,
        tokens: SessionTokens,
        limits: SignInLimits,
        revocations: Revocations,
        clock: Clock,
    ) -> None:
        self._work = work
        self._passwords = passwords
        self._tokens = tokens
        self._limits = limits
        self._revocations = revocations
        self._clock = clock

    def login(self, credentials: Credentials, client: Client) -> Session:
        """Begin a session.

        Raises UnauthenticatedError, the same after the same work for an unknown account; RateLimitedError after
        too many of them; and only to who knows the password ForbiddenError for a suspended account.
        """
        password, network = credentials.password.get_secret_value(), network_of(client.address)
        with self._work.statement() as store:
            account = store.find_account(credentials.email, network)
        known = account is not None and account.known_network
        attempt = self._limits.begin(credentials.email, client.address, known=known)
        if not self._passwords.matches(account.password_hash if account else None, password) or account is None:
            raise UnauthenticatedError("The e-mail address or the password is wrong.")
        self._limits.forgive(attempt)
        if account.user.status != "active":
            reason = f" The reason given: {account.suspension_reason}" if account.suspension_reason else ""
            raise ForbiddenError(f"This account is {account.user.status}.{reason}")
        session = self._open(account, client, network)
        if self._passwords.is_outdated(account.password_hash):
            rehashed = self._passwords.hash(password)
            with self._work.statement() as store:
                store.put_password_hash(account.user.id, rehashed, in_place_of=account.password_hash)
        return session

    def refresh(self, refresh_token: str, client: Client) -> Session:
        """New tokens for one that is spent with it.

        A token that was spent before ends the session for whoever has it: the thief and the owner can't be told
        apart. Raises UnauthenticatedError.
        """

        tokens = self._tokens.read_keys()

        def change(store: SessionStore, outbox: Appendable) -> Refreshed:
            presented = store.present_token(hash_token(refresh_token))
            self._check_usable(presented)
            assert presented is not None
            account, session_id = presented.account, presented.session_id
            if presented.spent:
                store.end_session(session_id, account.user.id, "token_reused")
                outbox.record(
                    AuditRecord("session.token_reused", "user", account.user.id, None, {"session_id": str(session_id)})
                )
                return Refreshed(ended=session_id)
            session, kept = tokens.make(
                account.user,
                session_id=session_id,
                generation=account.generation,
                session_expires_at=presented.session_expires_at,
            )
            store.rotate_token(session_id, client, kept)
            return Refreshed(session=session)

        refreshed = self._work.run(Refreshed, change)
        if refreshed.session is None:
            self._revocations.end_session(str(refreshed.ended))
            raise UnauthenticatedError("The refresh token has been used before; its session has ended. Sign in again.")
        return refreshed.session

    def logout(self, caller: Caller) -> None:
        """End the caller's session, and the very token they called with."""

        def change(store: SessionStore, _outbox: Appendable) -> None:
            store.end_session(UUID(caller.session_id), caller.user_id, "logout")
            store.blacklist_token(caller.token_id, caller.user_id, "logout", caller.expires_at + LEEWAY)

        self._work.run(None, change)
        self._revocations.end_session(caller.session_id, caller.token_id)

    def page(self, caller: Caller, cursor: str | None, limit: int) -> Page[SessionSummary]:
        """The caller's live sessions, the latest first. Raises InvalidInputError for a cursor that is none."""
        after = _position(cursor) if cursor else None
        with self._work.statement() as store:
            found = store.page_of_sessions(caller.user_id, self._clock(), after, limit + 1)
        page = [
            summary.model_copy(update={"current": str(summary.id) == caller.session_id}) for summary in found[:limit]
        ]
        last = page[-1] if len(found) > limit else None
        return Page(
            items=page, next_cursor=encode_cursor([last.created_at.isoformat(), str(last.id)]) if last else None
        )

    def end(self, session_id: UUID, caller: Caller) -> None:
        """End one of the caller's sessions. Raises NotFoundError for any other."""

        def change(store: SessionStore, _outbox: Appendable) -> None:
            if not store.end_session(session_id, caller.user_id, "revoked"):
                raise NotFoundError(f"You have no session {session_id}.")

        self._work.run(None, change)
        self._revocations.end_session(str(session_id))

    def _open(self, account: Account, client: Client, network: str) -> Session:
        tokens = self._tokens.read_keys()

        def change(store: SessionStore, _outbox: Appendable) -> Session:
            session_id, expires_at = uuid4(), self._clock() + SESSION_LIFETIME
            session, kept = tokens.make(
                account.user, session_id=session_id, generation=account.generation, session_expires_at=expires_at
            )
            if not store.open_session(session_id, account, client, network, expires_at, kept):
                raise UnauthenticatedError("The account has changed in the meantime; sign in again.")
            return session

        return self._work.run(Session, change)

    def _check_usable(self, presented: PresentedToken | None) -> None:
        """Raises UnauthenticatedError unless the token, spent or not, is of a live session."""
        now = self._clock()
        if presented is None:
            raise UnauthenticatedError("The refresh token is not valid.")
        ended = presented.session_ended or presented.session_expires_at <= now
        if ended or presented.account.user.status != "active":
            raise UnauthenticatedError("This session has ended; sign in again.")
        if presented.expires_at <= now and not presented.spent:
            raise UnauthenticatedError("The refresh token has expired; sign in again.")


class SessionCheckStore(Protocol):
    def check_session(self, user_id: int, session_id: str, token_id: str, generation: int) -> SessionState: ...


class SessionCheck:
    """What the gate asks where its copy of what has ended can't tell."""

    def __init__(self, work: Work[SessionCheckStore], restore_copy: Callable[[], object]) -> None:
        self._work = work
        self._restore_copy = restore_copy

    def check(self, user_id: int, session_id: str, token_id: str, generation: int) -> SessionState:
        """What is true of a session now, and the gate's copy of what ended is made complete again."""
        with self._work.statement() as store:
            state = store.check_session(user_id, session_id, token_id, generation)
        self._restore_copy()
        return state


def hash_token(token: str) -> bytes:
    """What is kept of a token of 256 random bits: nothing slower is needed, for there is nothing to guess."""
    return hashlib.sha256(token.encode()).digest()


def _position(cursor: str) -> tuple[datetime, UUID]:
    created_at, session_id = decode_cursor(cursor, length=2)
    try:
        moment = datetime.fromisoformat(created_at)
        position = moment, UUID(session_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
    if moment.tzinfo is None:
        raise invalid_cursor()
    return position
