"""With 1,000,000 registrations no statement of the registrations service reads all of what grows with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from psycopg import sql

from local.engines import Endpoints
from tests.support.many_registrations import HOT, ManyRegistrations, many_registrations
from tests.support.query_plans import UNTIL_SETTLED, Plans, plans_told
from tests.support.registration_queries import CALLS, KEPT_HERE, Call, World

REGISTRATIONS = 1_000_000
LARGE = 10_000

# Grow with events, people, webhooks or signing keys.
NOT_WITH_REGISTRATIONS = {
    "erased_users",
    "events",
    "announcements",
    "calendar_feeds",
    "doors",
    "mailing",
    "schema_version",
    "suspended_users",
    "ticket_keys",
    "webhook_secrets",
    "webhooks",
}
# At most as many as there are offers open at a time; one for hundreds of people in line.
NEVER_MANY = {"offers", "line_blocks"}


@pytest.fixture(scope="module")
def many(endpoints: Endpoints) -> Iterator[ManyRegistrations]:
    with many_registrations(endpoints.postgres, REGISTRATIONS) as made:
        yield made


def sizes(many: ManyRegistrations) -> dict[str, int]:
    """The rows of each table and each partition of the service."""
    with many.connected() as connection:
        rows = connection.execute(
            """
            SELECT relname, reltuples::bigint AS rows
              FROM pg_class
             WHERE relnamespace = 'registrations'::regnamespace AND relkind = 'r'
            """
        ).fetchall()
    return {row["relname"]: row["rows"] for row in rows}


def large_tables(many: ManyRegistrations) -> set[str]:
    return {name for name, rows in sizes(many).items() if rows >= LARGE}


def plans_of(many: ManyRegistrations, calls: Mapping[str, tuple[type | None, Call]]) -> Plans:
    """The plans of all statements that the calls run, from the first to those that are settled for."""
    every = Plans()
    with many.connected() as connection:
        world = World.of(connection)
        with plans_told(connection) as told:
            for name, (store, call) in calls.items():
                told.plans.clear()
                for _ in range(UNTIL_SETTLED):
                    with connection.transaction(force_rollback=True):
                        call(store(connection) if store is not None else None, world)
                assert told.plans, f"{name} ran nothing that has a plan"
                every.plans += told.plans
    return every


ALL: dict[str, tuple[type | None, Call]] = {
    **{f"{store.__name__}.{name}": (store, call) for store, calls in CALLS.items() for name, call in calls.items()},
    **{name: (None, call) for name, call in KEPT_HERE.items()},
}


def test_whatever_grows_with_registrations_is_large_here(many: ManyRegistrations) -> None:
    """Of a small table all is read, with or without an index: its plans would say nothing."""
    tables = sizes(many)
    partitions = {name for name in tables if name.startswith("event_registrations_")}
    large = large_tables(many)

    assert len(partitions & large) >= 3, "several months"
    assert tables.keys() - partitions - NOT_WITH_REGISTRATIONS - NEVER_MANY <= large
    with many.connected() as connection:
        row = connection.execute(
            """
            SELECT count(*) AS registrations, count(*) FILTER (WHERE status = 'waitlisted') AS waiting
              FROM registrations.event_registrations
             WHERE event_id = %s
            """,
            (HOT,),
        ).fetchone()
    assert row is not None
    assert row["registrations"] >= 100_000
    assert row["waiting"] >= 10_000


def test_no_statement_reads_a_large_table_from_end_to_end(many: ManyRegistrations) -> None:
    plans = plans_of(many, ALL)

    assert plans.full_scans("registrations", large_tables(many)) == []


@pytest.mark.parametrize(
    ("index", "query"),
    [
        ("registrations_of_user", "PostgresRegistrations.page_of_user"),
        ("registrations_of_event", "PostgresRegistrations.page_of_event"),
        ("mails_of_user", "PostgresMails.held_mails"),
        ("check_ins_of_event", "PostgresAdmission.page_of_check_ins"),
        ("deliveries_by_age", "PostgresWebhooks.clear_old"),
    ],
)
def test_a_missing_index_is_seen(many: ManyRegistrations, index: str, query: str) -> None:
    """The control. What is planned here is rolled back, index and all."""
    store, call = ALL[query]
    assert store is not None
    with many.connected() as connection, plans_told(connection) as told:
        world = World.of(connection)
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier("registrations", index)))
            call(store(connection), world)

    assert told.full_scans("registrations", large_tables(many)) != []
