"""Operations that need the database's administrator, as a deployed function runs them."""

from __future__ import annotations

from eventsplatform.adapters.postgres import connection_parameters
from eventsplatform.config import DatabaseSettings
from eventsplatform.operations.migrate import MigratedSchema, migrate


def migrate_deployed_database() -> list[MigratedSchema]:
    """Migrate as the administrator, who has no password either: RDS takes a token signed by the function's role."""
    settings = DatabaseSettings.from_environment()
    parameters = connection_parameters(settings)
    return migrate(settings.url, iam_authentication=settings.iam_authentication, **parameters)
