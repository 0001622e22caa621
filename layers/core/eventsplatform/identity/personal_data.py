"""What is held about a person: handing it over, and forgetting it (GDPR art. 15 and 17)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pydantic import BaseModel, Field

from eventsplatform.clock import Clock
from eventsplatform.errors import ConflictError, FieldError, InvalidInputError
from eventsplatform.identity import messages
from eventsplatform.identity.administration import Revocations
from eventsplatform.identity.caller import Caller, Client
from eventsplatform.identity.people import ErasedUser, Erasure
from eventsplatform.identity.profiles import KnownUser, ProfileCache, no_such_user
from eventsplatform.identity.sign_in_limits import SignInLimits, network_of
from eventsplatform.messaging.model import Appendable, AuditRecord, Work
from eventsplatform.pagination import decode_cursor, encode_cursor, invalid_cursor
from eventsplatform.personal_data import HeldRows

OWN_SERVICE = "identity"


class PersonalDataStore(Protocol):
    def held_about(self, user_id: int) -> dict[str, list[dict[str, Any]]]:
        """Every row about the user, by table; secrets, which are hashes of what the user knows, left out."""

    def find_owner(self, user_id: int, network: str) -> Owner | None:
        """None for an account that is erased, or never was."""

    def lock_administrators(self) -> set[int]:
        """The accounts that administer others, which stay so until the transaction ends."""

    def erase(self, user_id: int, password_hash: str) -> ErasedAccount | None:
        """Empty the account, and delete what belongs to it; None unless it has this password still."""


class ErasedAccount(BaseModel):
    id: int
    version: int
    generation: int


@dataclass(frozen=True)
class Owner:
    """How the owner of an account is known. `known_network`: they have signed in from there before."""

    email: str
    password_hash: str
    known_network: bool


class OtherService(Protocol):
    def held_about(self, user_id: int, after: Mapping[str, int] | None) -> HeldRows:
        """What the service holds about the user: of each table in `after` the rows behind that id."""


class PasswordCheck(Protocol):
    def matches(self, encoded: str | None, password: str) -> bool: ...


class Export(BaseModel):
    """Everything held about a person: rows by service and table, as they are stored.

    A page holds the beginnings of long tables; `next_cursor` leads on, to a page with their next rows alone.
    """

    user_id: int
    exported_at: datetime
    services: dict[str, dict[str, list[dict[str, Any]]]] = Field(description="Rows by service and table.")
    next_cursor: str | None


class PersonalData:
    def __init__(
        self,
        work: Work[PersonalDataStore],
        passwords: PasswordCheck,
        limits: SignInLimits,
        others: Mapping[str, OtherService],
        cache: ProfileCache,
        revocations: Revocations,
        clock: Clock,
    ) -> None:
        self._work = work
        self._passwords = passwords
        self._limits = limits
        self._others = others
        self._cache = cache
        self._revocations = revocations
        self._clock = clock

    def export(self, caller: Caller, cursor: str | None = None) -> Export:
        """A page of what is held about the caller in every schema. Raises InvalidInputError for a foreign cursor."""
        positions = _positions(cursor) if cursor else None
        services: dict[str, dict[str, list[dict[str, Any]]]] = {}
        more: dict[str, dict[str, int]] = {}
        if positions is None:
            services[OWN_SERVICE] = self._begin_export(caller.user_id)
        for name, service in self._others.items():
            if positions is not None and name not in positions:
                continue
            held = service.held_about(caller.user_id, positions[name] if positions is not None else None)
            services[name] = held.rows
            if held.more:
                more[name] = held.more
        return Export(
            user_id=caller.user_id,
            exported_at=self._clock(),
            services=services,
            next_cursor=encode_cursor([json.dumps(more)]) if more else None,
        )

    def erase(self, erasure: Erasure, caller: Caller, client: Client) -> None:
        """Forget the caller: here at once, everywhere else as the message arrives.

        Raises InvalidInputError for a wrong password, RateLimitedError after too many of them, ConflictError for
        the last active administrator.
        """
        with self._work.statement() as store:
            owner = store.find_owner(caller.user_id, network_of(client.address))
        if owner is None:
            raise no_such_user(caller.user_id)
        # Who holds a stolen token could guess here as well as at the front door.
        attempt = self._limits.begin(owner.email, client.address, known=owner.known_network)
        if not self._passwords.matches(owner.password_hash, erasure.password.get_secret_value()):
            raise InvalidInputError([FieldError("/password", "is not the current password")])
        self._limits.forgive(attempt)

        def change(store: PersonalDataStore, outbox: Appendable) -> ErasedAccount:
            if store.lock_administrators() == {caller.user_id}:
                raise ConflictError("You are the last active administrator; appoint another one first.")
            erased = store.erase(caller.user_id, owner.password_hash)
            if erased is None:
                raise ConflictError("The account has changed in the meantime; try again.")
            outbox.append(messages.user_deleted(ErasedUser(id=erased.id, version=erased.version)))
            outbox.record(
                AuditRecord(
                    action="user.erased",
                    subject_type="user",
                    subject_id=erased.id,
                    actor_id=caller.user_id,
                    details={},
                )
            )
            return erased

        erased = self._work.run(ErasedAccount, change)
        self._revocations.end_user(erased.id, erased.generation)
        self._cache.put(erased.id, KnownUser(erased.version, None))

    def _begin_export(self, user_id: int) -> dict[str, list[dict[str, Any]]]:
        record = AuditRecord(
            action="user.exported", subject_type="user", subject_id=user_id, actor_id=user_id, details={}
        )
        with self._work() as (store, outbox):
            outbox.record(record)
            return store.held_about(user_id)


def _positions(cursor: str) -> dict[str, dict[str, int]]:
    """Where each service's tables go on."""
    (text,) = decode_cursor(cursor, length=1)
    try:
        positions = json.loads(text)
        return {
            service: {table: int(after) for table, after in tables.items()} for service, tables in positions.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise invalid_cursor() from error
