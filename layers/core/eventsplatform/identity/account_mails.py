"""The mails about accounts: which of them an address is sent, and its one-time token.

They are asked for on behalf of anyone who types an address, so all that depends on what is known of the address
happens here, after the answer; and a person gets few of them, whoever asks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from pydantic import BaseModel

from eventsplatform.clock import Clock
from eventsplatform.identity import mails
from eventsplatform.identity.sessions import hash_token
from eventsplatform.mail import Mail, MailRejectedError
from eventsplatform.messaging.model import Work

TOKEN_LIFETIME = timedelta(hours=1)
TOKEN_BYTES = 32
# Of one purpose to one address, within the hour.
MAILS_PER_HOUR = 5

Purpose = Literal["sign_up", "resend", "password_reset", "password_changed"]
TokenPurpose = Literal["verify_email", "reset_password"]
Outcome = Literal["sent", "sent_before", "too_many", "nothing_to_send", "rejected"]


class MailRequest(BaseModel):
    """A mail that is asked for; of a sign-up, `request_id` is its id. Asked for twice it is sent once."""

    request_id: UUID
    purpose: Purpose
    email: str


@dataclass(frozen=True)
class Recipient:
    """The account of an address, and the sign-up that its confirmation would be for."""

    user_id: int
    email: str
    status: str
    verified: bool
    sign_up_id: UUID | None


class AccountMailStore(Protocol):
    def begin_mail(self, request: MailRequest, now: datetime, *, since: datetime, at_most: int) -> Outcome | None:
        """Take note of a mail that is going to be sent; or why it isn't. Two to one address wait for each other."""

    def find_recipient(self, email: str, sign_up_id: UUID | None) -> Recipient | None:
        """Without a `sign_up_id` with the latest one of the address."""

    def add_one_time_token(
        self,
        token_hash: bytes,
        purpose: TokenPurpose,
        *,
        user_id: int,
        sign_up_id: UUID | None,
        now: datetime,
        expires_at: datetime,
    ) -> None: ...

    def mail_sent(self, request_id: UUID, now: datetime) -> None: ...


class AccountMails:
    def __init__(self, work: Work[AccountMailStore], send: Callable[[Mail], None], web_url: str, clock: Clock) -> None:
        self._work = work
        self._send = send
        self._web_url = web_url
        self._clock = clock

    def send(self, request: MailRequest) -> Outcome:
        """Send what the request comes to. Raises DependencyUnavailableError; trying again is safe then."""
        now = self._clock()
        with self._work() as (store, _outbox):
            recipient = store.find_recipient(
                request.email, request.request_id if request.purpose == "sign_up" else None
            )
            if recipient is None or not _concerns(request.purpose, recipient):
                return "nothing_to_send"
            refused = store.begin_mail(request, now, since=now - timedelta(hours=1), at_most=MAILS_PER_HOUR)
            if refused is not None:
                return refused
            mail = self._compose(store, request.purpose, recipient, now)
        try:
            self._send(mail)
        except MailRejectedError:
            return "rejected"
        with self._work.statement() as store:
            store.mail_sent(request.request_id, self._clock())
        return "sent"

    def _compose(self, store: AccountMailStore, purpose: Purpose, recipient: Recipient, now: datetime) -> Mail:
        """Written to the address as the account has it, in whatever case it was typed."""
        to = recipient.email
        if purpose == "password_changed":
            return mails.password_changed(to, self._web_url)
        if purpose == "password_reset":
            return mails.reset_password(to, self._add_token(store, "reset_password", recipient, now), self._web_url)
        if recipient.verified:
            return mails.account_exists(to, self._web_url)
        if recipient.sign_up_id is None:
            return mails.sign_up_again(to, self._web_url)
        return mails.confirm_address(to, self._add_token(store, "verify_email", recipient, now), self._web_url)

    @staticmethod
    def _add_token(store: AccountMailStore, purpose: TokenPurpose, recipient: Recipient, now: datetime) -> str:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        store.add_one_time_token(
            hash_token(token),
            purpose,
            user_id=recipient.user_id,
            sign_up_id=recipient.sign_up_id if purpose == "verify_email" else None,
            now=now,
            expires_at=now + TOKEN_LIFETIME,
        )
        return token


def _concerns(purpose: Purpose, recipient: Recipient) -> bool:
    if recipient.status == "erased":
        return False
    return not (purpose == "resend" and recipient.verified)
