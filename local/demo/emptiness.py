"""Whether there is room for demo data: asked at every start, so without loading what makes them."""

from __future__ import annotations

from eventsplatform.adapters.postgres import Database
from eventsplatform.config import DatabaseSettings


def is_empty(database_url: str) -> bool:
    """Whether a migrated database has no users, and so nothing else either.

    Raises DependencyUnavailableError when it cannot be reached.
    """
    database = Database(DatabaseSettings(database_url, "identity", False))
    try:
        return not database.fetch_all("SELECT FROM identity.users LIMIT 1")
    finally:
        database.close()
