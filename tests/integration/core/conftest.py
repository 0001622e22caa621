"""The migrated database, for the tests of this directory."""

from tests.support.database import migrated_database

__all__ = ["migrated_database"]
