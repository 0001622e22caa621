"""Which partner systems may send commands on whose behalf: what operators grant and withdraw.

A grant is a session of the person: it is in the list of their sessions, where they can end it, and it ends with a new
password, a suspension or the account. Commands look whether it is live each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal, Protocol, Self, get_args
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, EmailStr, Field, model_validator

from eventsplatform.clock import Clock
from eventsplatform.errors import ConflictError, NotFoundError
from eventsplatform.identity.model import Account
from eventsplatform.identity.partner_tokens import PartnerTokenIssuer
from eventsplatform.messaging.model import Appendable, AuditRecord, Work

PartnerCommand = Literal["events.create", "events.update", "events.cancel", "registrations.create"]
PARTNER_COMMANDS: tuple[PartnerCommand, ...] = get_args(PartnerCommand)

# A signing key verifies for at least as long after it was replaced.
DAYS_MAXIMUM = 30

Partner = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,49}$")]


class Grant(BaseModel):
    """Let a partner system give commands on behalf of the person with this address."""

    model_config = ConfigDict(extra="forbid")

    partner: Partner
    email: EmailStr = Field(max_length=254)
    commands: list[PartnerCommand] = Field(min_length=1)
    days: int = Field(default=DAYS_MAXIMUM, ge=1, le=DAYS_MAXIMUM)


class Withdrawal(BaseModel):
    """End a partner's grants: one of them, or all."""

    model_config = ConfigDict(extra="forbid")

    partner: Partner
    session_id: UUID | None = None


class PartnerRequest(BaseModel):
    """One of the two."""

    model_config = ConfigDict(extra="forbid")

    grant: Grant | None = None
    withdraw: Withdrawal | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.grant is None) == (self.withdraw is None):
            raise ValueError("either grant or withdraw")
        return self


class Granted(BaseModel):
    """The token is told once and kept nowhere."""

    partner: str
    user_id: int
    commands: list[PartnerCommand]
    session_id: UUID
    expires_at: datetime
    token: str


class Withdrawn(BaseModel):
    partner: str
    session_ids: list[UUID]


class PartnerStore(Protocol):
    def account_of(self, email: str) -> Account | None:
        """The account of an address, which no suspension and no new password overtakes until the transaction ends."""

    def open_partner_session(
        self, session_id: UUID, user_id: int, partner: str, now: datetime, expires_at: datetime
    ) -> None: ...

    def end_partner_sessions(self, partner: str, session_id: UUID | None) -> Sequence[tuple[UUID, int]]:
        """The sessions that have ended by it, and whose they were."""


class Partners:
    """`tokens` is asked for when a token is made: few functions may read the keys."""

    def __init__(self, work: Work[PartnerStore], tokens: Callable[[], PartnerTokenIssuer], clock: Clock) -> None:
        self._work = work
        self._tokens = tokens
        self._clock = clock

    def grant(self, wanted: Grant) -> Granted:
        """Raises NotFoundError for an address without an account, ConflictError for one that may not act itself."""
        tokens = self._tokens().read_keys()
        now = self._clock().replace(microsecond=0)
        session_id, until = uuid4(), now + timedelta(days=wanted.days)
        with self._work() as (store, outbox):
            account = store.account_of(wanted.email)
            if account is None or account.user.status == "erased":
                raise NotFoundError("No account has this e-mail address.")
            if account.user.status != "active" or not account.user.email_verified:
                raise ConflictError("The account is suspended, or its address is not confirmed.")
            store.open_partner_session(session_id, account.user.id, wanted.partner, now, until)
            outbox.record(
                AuditRecord(
                    action="partner.granted",
                    subject_type="user",
                    subject_id=account.user.id,
                    actor_id=None,
                    details={
                        "partner": wanted.partner,
                        "commands": wanted.commands,
                        "session_id": str(session_id),
                        "expires_at": until.isoformat(),
                    },
                )
            )
        token = tokens.issue(
            account.user,
            partner=wanted.partner,
            commands=wanted.commands,
            session_id=str(session_id),
            generation=account.generation,
            until=until,
        )
        return Granted(
            partner=wanted.partner,
            user_id=account.user.id,
            commands=wanted.commands,
            session_id=session_id,
            expires_at=until,
            token=token,
        )

    def withdraw(self, unwanted: Withdrawal) -> Withdrawn:
        """From the next command on. Raises NotFoundError when there was nothing to end."""

        def change(store: PartnerStore, outbox: Appendable) -> list[UUID]:
            ended = store.end_partner_sessions(unwanted.partner, unwanted.session_id)
            for session_id, user_id in ended:
                details = {"partner": unwanted.partner, "session_id": str(session_id)}
                outbox.record(AuditRecord("partner.withdrawn", "user", user_id, None, details))
            return [session_id for session_id, _ in ended]

        ended = self._work.run(list[UUID], change)
        if not ended:
            raise NotFoundError(f"The partner {unwanted.partner!r} has no such grant.")
        return Withdrawn(partner=unwanted.partner, session_ids=ended)
