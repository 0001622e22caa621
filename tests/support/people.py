"""Accounts, and the use cases around them, on a migrated database."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from eventsplatform.adapters.postgres import Connection, Database
from eventsplatform.catalog.organizers import Organizers
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.clock import Clock, utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.identity.administration import UserAdministration
from eventsplatform.identity.caller import Client
from eventsplatform.identity.model import ROLE_PERMISSIONS
from eventsplatform.identity.people_repository import PostgresPeople
from eventsplatform.identity.personal_data import PersonalData
from eventsplatform.identity.profiles import KnownUser, Profiles
from eventsplatform.identity.sign_in_limits import AttemptsInMemory, SignInLimits
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.messaging.records import Records
from eventsplatform.messaging.records_repository import PostgresRecords
from eventsplatform.outbound import NotPublicError
from eventsplatform.personal_data import HeldRows
from eventsplatform.registrations.attendees import Attendees
from eventsplatform.registrations.attendees_repository import PostgresAttendees
from eventsplatform.registrations.webhooks.owners import WebhookOwners
from eventsplatform.registrations.webhooks.repository import PostgresWebhooks
from tests.support.database import PASSWORDS, SHARDS, administrator

Store = TypeVar("Store")

CLIENT = Client("192.0.2.7", "Lynx")
PASSWORD = "correct horse battery"
_numbers = itertools.count(1)


@dataclass
class KeptProfiles:
    """The cache without Redis: of each user the latest version it was given."""

    kept: dict[int, KnownUser] = field(default_factory=dict)

    def get(self, user_id: int) -> KnownUser | None:
        return self.kept.get(user_id)

    def put(self, user_id: int, known: KnownUser) -> None:
        if user_id not in self.kept or self.kept[user_id].version <= known.version:
            self.kept[user_id] = known


@dataclass
class NotedRevocations:
    """What identity told the gate."""

    ended: dict[int, int] = field(default_factory=dict)

    def end_user(self, user_id: int, generation: int) -> None:
        self.ended[user_id] = generation


@dataclass(frozen=True)
class People:
    """The use cases as functions have them, on connections of their services' roles."""

    profiles: Profiles
    administration: UserAdministration
    personal_data: PersonalData
    organizers: Organizers
    attendees: Attendees
    webhook_owners: WebhookOwners
    records: Records
    cache: KeptProfiles
    revocations: NotedRevocations


@dataclass(frozen=True)
class AttendeesAndOwners:
    """What registrations holds, as its function hands it over."""

    attendees: Attendees
    webhook_owners: WebhookOwners

    def held_about(self, user_id: int, after: Mapping[str, int] | None) -> HeldRows:
        return self.attendees.held_about(user_id, after).beside(self.webhook_owners.held_about(user_id, after))


def refuse_private(url: str) -> None:
    """Without looking a name up: one that says what it is."""
    if ".private." in url:
        raise NotPublicError("must lead to the public internet")


@contextmanager
def people(
    url: str, *, clock: Clock = utc_now, store: Callable[[Connection], Any] = PostgresPeople
) -> Iterator[People]:
    """`store` is identity's, for tests that take something out of it."""
    databases: list[Database] = []

    def database(role: str) -> Database:
        databases.append(Database(DatabaseSettings(url, role, False)))
        return databases[-1]

    def work(role: str, opened: Callable[[Connection], Store]) -> UnitOfWork[Store]:
        return UnitOfWork(database(role), opened, lambda _: None, SHARDS)

    organizers = Organizers(work("catalog", PostgresCatalog), clock)
    attendees = Attendees(work("registrations", PostgresAttendees), clock)
    webhook_owners = WebhookOwners(work("registrations", PostgresWebhooks))
    records = Records(PostgresRecords(database("messaging")))
    cache, revocations = KeptProfiles(), NotedRevocations()
    limits = SignInLimits(AttemptsInMemory(time.monotonic), AttemptsInMemory(time.monotonic), time.monotonic)
    own = work("identity", store)
    others = {
        "catalog": organizers,
        "registrations": AttendeesAndOwners(attendees, webhook_owners),
        "messaging": records,
    }
    try:
        yield People(
            Profiles(own, cache, refuse_private),
            UserAdministration(own, revocations),
            PersonalData(own, PASSWORDS, limits, others, cache, revocations, clock),
            organizers,
            attendees,
            webhook_owners,
            records,
            cache,
            revocations,
        )
    finally:
        for opened in databases:
            opened.close()


def new_email(name: str = "person") -> str:
    return f"{name}-{os.getpid()}-{next(_numbers)}@example.org"


def add_user(url: str, **changes: Any) -> int:
    """A verified account with the password PASSWORD; `changes` to its columns."""
    role = changes.get("role", "user")
    columns: Mapping[str, Any] = {
        # Beyond the numbers that other tests make up for users of theirs.
        "id": 5_000_000 + next(_numbers),
        "email": new_email(),
        "name": "Ada Lovelace",
        "password_hash": PASSWORDS.hash(PASSWORD),
        "role": role,
        "permissions": list(ROLE_PERMISSIONS[role]),
        "verified_at": utc_now(),
        **changes,
    }
    names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
    with administrator(url) as connection:
        row = connection.execute(
            f"INSERT INTO identity.users ({names}) OVERRIDING SYSTEM VALUE VALUES ({places}) RETURNING id",
            list(columns.values()),
        ).fetchone()
    assert row is not None
    return int(row["id"])


def rows(url: str, query: str, *parameters: Any) -> list[dict[str, Any]]:
    with administrator(url) as connection:
        return connection.execute(query, parameters).fetchall()
