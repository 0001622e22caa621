"""Operations that need the database's administrator, as a deployed function runs them."""

from __future__ import annotations

from psycopg import conninfo

from eventsplatform.adapters.aws import SecretStore
from eventsplatform.config import DatabaseSettings, read_setting
from eventsplatform.operations.migrate import MigratedSchema, migrate


def migrate_deployed_database() -> list[MigratedSchema]:
    """Migrate as the administrator whose password RDS keeps, and rotates, in Secrets Manager."""
    settings = DatabaseSettings.from_environment()
    address = conninfo.conninfo_to_dict(settings.url)
    secret = SecretStore(max_age_seconds=0).get_json(read_setting("DATABASE_ADMIN_SECRET", str))
    parts = {**address, "user": secret["username"], "password": secret["password"]}
    return migrate(conninfo.make_conninfo("", **parts), iam_authentication=settings.iam_authentication)
