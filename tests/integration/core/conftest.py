"""The session's engines as the core's adapters use them, and the migrated database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventsplatform.messaging import schemas
from local.engines import Endpoints
from tests.support.core_environment import core_environment
from tests.support.database import administrator, migrated_database
from tests.support.lambda_events import message
from tests.support.metrics import metrics

__all__ = ["metrics", "migrated_database"]


@pytest.fixture
def adapters(endpoints: Endpoints) -> Iterator[Endpoints]:
    """Point the adapters at the session's engines."""
    with core_environment(endpoints):
        yield endpoints


@pytest.fixture(autouse=True)
def _conforming_messages(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever the services have told in a test is of the schema of its type."""
    if "migrated_database" not in request.fixturenames:
        yield
        return
    url: str = request.getfixturevalue("migrated_database")
    with administrator(url) as connection:
        (before,) = connection.execute("SELECT coalesce(max(id), 0) AS id FROM messaging.outbox").fetchall()
        yield
        # What tests write by themselves is of other aggregates, or empty.
        told = connection.execute(
            """
            SELECT type, payload FROM messaging.outbox
             WHERE id > %s AND aggregate_type IN ('event', 'registration', 'user') AND payload <> '{}'
            """,
            (before["id"],),
        ).fetchall()
    for row in told:
        assert row["type"] in schemas.types(), f"{row['type']}: it has no schema"
        schemas.check(message(type=row["type"], data=row["payload"]))
