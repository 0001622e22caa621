"""Registrations of releases that did not store them by month are carried over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from psycopg.errors import CheckViolation

from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings
from eventsplatform.messaging.outbox import UnitOfWork
from eventsplatform.operations.migrate import migrate
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations
from tests.integration.core.test_registrations import NoDirectory
from tests.support.callers import caller
from tests.support.database import SHARDS, administrator, database_beside


def test_registrations_of_earlier_releases_are_carried_over_with_their_places_and_their_order(
    migrated_database: str,
) -> None:
    """Up to `registrations_0003`, as a platform was that kept the counts in the event's row; then the rest."""
    url = database_beside(migrated_database, "registrations_carried_over")
    migrate(url, revisions={"registrations": "registrations_0003"})
    starts_at = datetime.now(UTC) + timedelta(days=30)
    with administrator(url) as connection:
        connection.execute(
            """
            INSERT INTO registrations.events
                   (event_id, organizer_id, title, status, starts_at, capacity, version,
                    registered, waitlisted, counts_version)
            VALUES (7, 1, 'Full', 'published', %(starts_at)s, 2, 1, 2, 2, 5),
                   (8, 1, 'Open', 'published', %(starts_at)s, 40, 1, 1, 0, 1)
            """,
            {"starts_at": starts_at},
        )
        connection.execute(
            """
            INSERT INTO registrations.event_registrations (event_id, user_id, status, registered_at)
            VALUES (7, 1, 'active', now() - interval '70 days'), (7, 2, 'cancelled', now()), (7, 3, 'active', now()),
                   (7, 4, 'waitlisted', now()), (7, 5, 'waitlisted', now()), (8, 1, 'active', now())
            """
        )

    migrate(url)

    database = Database(DatabaseSettings(url, "registrations", False))
    work = UnitOfWork(database, PostgresRegistrations, lambda _: None, SHARDS)
    registrations = Registrations(work, NoDirectory(), lambda: datetime.now(UTC))
    try:
        assert registrations.register(7, caller(2)).position == 3
        registrations.cancel(7, caller(1))
        assert registrations.accept(7, caller(4)).status == "active"
        taken = [registrations.register(8, caller(user)).status for user in range(2, 42)]
    finally:
        database.close()
    assert taken == ["active"] * 39 + ["waitlisted"]
    with administrator(url) as connection:
        rows = connection.execute(
            """
            SELECT user_id, status FROM registrations.event_registrations WHERE event_id = 7
             ORDER BY registered_at, id
            """
        ).fetchall()
        versions = connection.execute(
            "SELECT part, version FROM registrations.places WHERE event_id = 7 AND version > 0 ORDER BY part"
        ).fetchall()
    assert [(row["user_id"], row["status"]) for row in rows if row["user_id"] == 1] == [(1, "cancelled")]
    assert versions[0]["part"] == 0
    assert versions[0]["version"] > 5, "what is told from now on is later than what was told before"


def test_the_database_itself_refuses_one_place_too_many(migrated_database: str) -> None:
    with administrator(migrated_database) as connection, connection.transaction(force_rollback=True):
        connection.execute(
            """
            INSERT INTO registrations.events (event_id, organizer_id, status, starts_at, ends_at, capacity, version)
            VALUES (%s, 1, 'published', now(), now(), 1, 1)
            """,
            (2**60,),
        )
        connection.execute("INSERT INTO registrations.places VALUES (%s, 0, 1, 1)", (2**60,))
        with pytest.raises(CheckViolation, match="never_oversold"):
            connection.execute("UPDATE registrations.places SET taken = taken + 1 WHERE event_id = %s", (2**60,))
