"""Loading a small share of the demo data into a real database, through the services."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings
from eventsplatform.errors import DependencyUnavailableError
from eventsplatform.identity.passwords import Argon2Passwords
from eventsplatform.identity.repository import PostgresIdentity
from eventsplatform.messaging.model import shard_of
from eventsplatform.operations.migrate import migrate
from local.commands.demo import add_arguments, progress_bar, run
from local.demo import DemoReport, NotEmptyError, is_empty, load
from local.demo.accounts import ATTENDEE_EMAIL, ORGANIZER_EMAIL, PASSWORD
from local.engines import Endpoints

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SCALE = 0.04
SHARDS = 4

WRONG_COUNTS = """
    SELECT known.event_id
      FROM registrations.events AS known
      LEFT JOIN (
           SELECT event_id, sum(taken) AS taken, sum(waiting) AS waiting, sum(capacity) AS capacity
             FROM registrations.places
            GROUP BY event_id
           ) AS places USING (event_id)
      LEFT JOIN (
           SELECT event_id,
                  count(*) FILTER (WHERE status = 'active')     AS active,
                  count(*) FILTER (WHERE status = 'waitlisted') AS waitlisted
             FROM registrations.event_registrations
            GROUP BY event_id
           ) AS counted USING (event_id)
     WHERE places.taken IS DISTINCT FROM coalesce(counted.active, 0)
        OR places.waiting IS DISTINCT FROM coalesce(counted.waitlisted, 0)
        OR places.taken > known.capacity
        OR places.capacity > known.capacity
        OR (places.waiting > 0 AND places.taken < known.capacity)
"""

_numbers = itertools.count(1)


def _new_database(endpoints: Endpoints) -> str:
    name = f"demo_{next(_numbers)}"
    with psycopg.connect(endpoints.postgres, autocommit=True) as administrator:
        administrator.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = f"{endpoints.postgres.rpartition('/')[0]}/{name}"
    migrate(url)
    return url


def _ignore(stage: str, done: int, total: int) -> None:
    """No one watches."""


@pytest.fixture(scope="module")
def loaded(endpoints: Endpoints) -> tuple[str, DemoReport]:
    url = _new_database(endpoints)
    return url, load(url, shards=SHARDS, now=NOW, progress=_ignore, scale=SCALE)


@pytest.fixture
def administrator(loaded: tuple[str, DemoReport]) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(loaded[0], row_factory=dict_row) as connection:
        yield connection
        connection.rollback()


def _count(connection: psycopg.Connection[dict[str, Any]], query: str) -> int:
    row = connection.execute(f"SELECT count(*) AS number FROM {query}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row["number"])


def test_the_report_says_what_is_in_the_database(
    loaded: tuple[str, DemoReport], administrator: psycopg.Connection[dict[str, Any]]
) -> None:
    _, report = loaded
    assert report.users == _count(administrator, "identity.users") == 20
    assert report.events == _count(administrator, "catalog.events WHERE status = 'published'") == 96
    assert report.registrations == _count(administrator, "registrations.event_registrations") >= 400
    assert report.waitlisted == _count(administrator, "registrations.event_registrations WHERE status = 'waitlisted'")
    assert report.waitlisted > 0


def test_counts_equal_recounts_and_nothing_is_oversold(administrator: psycopg.Connection[dict[str, Any]]) -> None:
    assert administrator.execute(WRONG_COUNTS).fetchall() == []


def test_the_recount_would_see_one_registration_too_many(administrator: psycopg.Connection[dict[str, Any]]) -> None:
    administrator.execute(
        """
        INSERT INTO registrations.event_registrations (event_id, user_id, status, part)
        SELECT event_id, -1, 'active', 0 FROM registrations.places WHERE waiting > 0 LIMIT 1
        """
    )
    assert len(administrator.execute(WRONG_COUNTS).fetchall()) == 1


def test_the_first_to_register_have_the_places(administrator: psycopg.Connection[dict[str, Any]]) -> None:
    overtaken = _count(
        administrator,
        """
        registrations.event_registrations AS early
        JOIN registrations.event_registrations AS late USING (event_id)
        WHERE early.id < late.id AND early.status = 'waitlisted' AND late.status = 'active'
        """,
    )
    assert overtaken == 0


def test_every_change_is_in_the_outbox_on_the_shard_of_its_key_and_in_a_trace_of_its_own(
    loaded: tuple[str, DemoReport], administrator: psycopg.Connection[dict[str, Any]]
) -> None:
    _, report = loaded
    rows = administrator.execute("SELECT * FROM messaging.outbox").fetchall()
    by_type = {kind: [row for row in rows if row["type"] == kind] for kind in {row["type"] for row in rows}}
    assert {kind: len(found) for kind, found in by_type.items()} == {
        "users.created": report.users,
        "events.created": report.events,
        "events.published": report.events,
        "registrations.created": report.registrations - report.waitlisted,
        "registrations.waitlisted": report.waitlisted,
    }
    assert all(row["shard"] == shard_of(row["partition_key"], SHARDS) for row in rows)
    assert all(row["published_at"] is None for row in rows)
    assert len({row["traceparent"] for row in rows}) == report.users + report.events + report.registrations


def test_anyone_can_sign_in_with_the_documented_password(loaded: tuple[str, DemoReport]) -> None:
    database = Database(DatabaseSettings(loaded[0], "identity", False))
    try:
        with database.transaction() as connection:
            found = [
                PostgresIdentity(connection).find_account(email, "127.0.0.1/32")
                for email in (ORGANIZER_EMAIL, ATTENDEE_EMAIL, "user0003@example.org")
            ]
    finally:
        database.close()
    hashes = [account.password_hash for account in filter(None, found)]
    assert len(set(hashes)) == 3
    assert all(Argon2Passwords().matches(password_hash, PASSWORD) for password_hash in hashes)


def test_a_database_with_users_is_left_alone(
    loaded: tuple[str, DemoReport], administrator: psycopg.Connection[dict[str, Any]]
) -> None:
    url, report = loaded
    with pytest.raises(NotEmptyError):
        load(url, shards=SHARDS, now=NOW, progress=_ignore, scale=SCALE)
    assert _count(administrator, "messaging.outbox") == report.users + 2 * report.events + report.registrations


def test_an_interruption_stops_the_loading_and_leaves_whole_things_only(endpoints: Endpoints) -> None:
    # Given someone who presses Ctrl-C once registrations have begun
    url = _new_database(endpoints)
    assert is_empty(url)
    seen: list[tuple[str, int, int]] = []

    def interrupt(stage: str, done: int, total: int) -> None:
        seen.append((stage, done, total))
        if stage == "registrations" and done:
            raise KeyboardInterrupt

    # When the demo data are loaded
    with pytest.raises(KeyboardInterrupt):
        load(url, shards=SHARDS, now=NOW, progress=interrupt, scale=SCALE)

    # Then what is there is consistent, and the database counts as used
    with psycopg.connect(url, row_factory=dict_row) as connection:
        assert connection.execute(WRONG_COUNTS).fetchall() == []
        registrations = _count(connection, "registrations.event_registrations")
        assert _count(connection, "messaging.outbox WHERE aggregate_type = 'registration'") == registrations
        assert 0 < registrations < seen[-1][2]
    assert not is_empty(url)
    assert {stage: (done, total) for stage, done, total in seen}.items() >= {
        "users": (20, 20),
        "events": (96, 96),
    }.items()


def test_a_failing_lane_stops_the_others_and_its_error_is_raised(endpoints: Endpoints) -> None:
    # Given a catalog that has lost a category since the plan was written
    url = _new_database(endpoints)
    with psycopg.connect(url, autocommit=True) as administrator:
        administrator.execute("DELETE FROM catalog.categories WHERE slug = 'tech'")

    # When, then
    with pytest.raises(Exception, match="'tech' is not a category"):
        load(url, shards=SHARDS, now=NOW, progress=_ignore, scale=SCALE)


def test_a_database_that_does_not_answer_is_reported() -> None:
    with pytest.raises(DependencyUnavailableError):
        load("postgresql://postgres@127.0.0.1:1/none", shards=SHARDS, now=NOW, progress=_ignore)


@pytest.mark.parametrize(("reachable", "status"), [(True, 1), (False, 2)])
def test_the_command_says_why_it_loads_nothing(
    loaded: tuple[str, DemoReport], capsys: pytest.CaptureFixture[str], reachable: bool, status: int
) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    url = loaded[0] if reachable else "postgresql://postgres@127.0.0.1:1/none"
    arguments = parser.parse_args(["--database-url", url])

    assert run(arguments) == status
    assert capsys.readouterr().err.count("\n") == 1


def test_the_progress_bar_shows_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress("users", 0, 500)
        progress("users", 500, 500)
        progress("events", 7, 2400)
    shown = capsys.readouterr().out
    assert "500/500" in shown
    assert "7/2400" in shown


def test_nobody_is_mailed_about_what_was_loaded(administrator: psycopg.Connection[dict[str, Any]]) -> None:
    """Mails are about what happens from `since` on."""
    told = _count(administrator, "messaging.outbox WHERE type = 'registrations.created'")
    too_late = _count(administrator, "messaging.outbox, registrations.mailing WHERE occurred_at >= since")

    assert told > 0
    assert too_late == 0
