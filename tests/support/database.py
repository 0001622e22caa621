"""A migrated database, and the services on it, for tests that need real state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg.rows import dict_row

from eventsplatform.adapters.postgres import Connection, Database
from eventsplatform.catalog.model import EventIn
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.catalog.service import Catalog
from eventsplatform.clock import Clock, utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.identity.passwords import Argon2Passwords
from eventsplatform.identity.repository import PostgresIdentity
from eventsplatform.identity.service import Identity
from eventsplatform.identity.tokens import AccessTokenIssuer
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.operations.migrate import migrate
from eventsplatform.registrations.model import EventPlaces
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations
from local.engines import Endpoints
from tests.support.callers import caller

Store = TypeVar("Store")

KEYS = {"active": "k1", "k1": "a key of the tests that is long enough for HS256"}
ISSUER, AUDIENCE = "events-platform", "events-platform-api"
SHARDS = 4
# Cheap on purpose: the cost of a hash is not what these tests are about.
PASSWORDS = Argon2Passwords(memory_kib=64, passes=1)


@pytest.fixture(scope="session")
def migrated_database(endpoints: Endpoints) -> str:
    """The address of the session's database, migrated."""
    migrate(endpoints.postgres)
    return endpoints.postgres


@contextmanager
def administrator(url: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A connection that may see everything, to look behind the services."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def event_in(**changes: Any) -> EventIn:
    """A valid event, with changes, that starts in a month."""
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    event = {
        "title": "A concert",
        "starts_at": start.isoformat(),
        "ends_at": (start + timedelta(hours=2)).isoformat(),
        "timezone": "Europe/Berlin",
        "location": {"name": "Berlin", "lat": 52.52, "lon": 13.405},
        "capacity": 100,
        "category": "music",
        "tags": ["jazz"],
    }
    return EventIn.model_validate({**event, **changes})


@dataclass(frozen=True)
class Services:
    """The services of one process: they call each other directly, where functions go through Lambda."""

    identity: Identity
    catalog: Catalog
    registrations: Registrations
    poked: list[set[int]]

    def published_event(self, organizer_id: int, **changes: Any) -> int:
        organizer = caller(organizer_id)
        event = self.catalog.create(event_in(**changes), organizer)
        return self.catalog.publish(event.id, organizer).id


class AnyUser:
    """A directory in which every user exists."""

    def describe(self, user_id: int) -> tuple[str, int]:
        return f"User {user_id}", 1


class CatalogDirectory:
    """The catalog as registrations asks it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def describe(self, event_id: int) -> EventPlaces:
        return EventPlaces.of_event(self._catalog.describe(event_id).model_dump(mode="json"))


@contextmanager
def services(url: str, *, clock: Clock = utc_now) -> Iterator[Services]:
    """The services as the functions build them, each on a connection of its own role."""
    databases: list[Database] = []
    poked: list[set[int]] = []

    def work(role: str, store: Callable[[Connection], Store]) -> UnitOfWork[Store]:
        databases.append(Database(DatabaseSettings(url, role, False)))
        return UnitOfWork(databases[-1], store, poked.append, SHARDS)

    catalog = Catalog(work("catalog", PostgresCatalog), AnyUser(), clock)
    issuer = AccessTokenIssuer(lambda: KEYS, issuer=ISSUER, audience=AUDIENCE, clock=clock)
    try:
        yield Services(
            identity=Identity(work("identity", PostgresIdentity), PASSWORDS, issuer, clock),
            catalog=catalog,
            registrations=Registrations(work("registrations", PostgresRegistrations), CatalogDirectory(catalog), clock),
            poked=poked,
        )
    finally:
        for database in databases:
            database.close()
