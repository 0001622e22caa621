"""Bringing the database to the current schema: roles, schemas and extensions, then each service's migrations.

Runs as the database's administrator. Every service owns its schema, and its migrations run as its role,
so an object made by mistake elsewhere fails here and not in production. Migrations are Alembic
revisions that hold plain SQL; each schema keeps its own version table.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg import sql

SERVICES = ("messaging", "identity", "catalog", "registrations")
EXTENSIONS = ("citext", "cube", "earthdistance", "pg_trgm", "btree_gist", "unaccent", "vector")

# Of every connection that a service opens. They belong to the role because RDS Proxy takes none from clients.
ROLE_SETTINGS = {
    "statement_timeout": "5s",
    # Shorter than the statement's: who waited for rows can be told that they were taken.
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "30s",
    "timezone": "UTC",
}

_PACKAGE = Path(__file__).parent.parent
_LOCK_KEY = 4_837_201_155


@dataclass(frozen=True)
class MigratedSchema:
    """The revision a schema was at and is at now; equal when there was nothing to do."""

    schema: str
    before: str | None
    after: str | None


def migrate(
    conninfo: str,
    *,
    iam_authentication: bool = False,
    revisions: Mapping[str, str] | None = None,
    **parameters: Any,
) -> list[MigratedSchema]:
    """Create what is missing and run every pending migration; running it again changes nothing.

    `revisions` says for a schema how far to go, if not to its newest one.

    `conninfo` and `parameters` are libpq's and connect as an administrator (superuser or `rds_superuser`).
    When they have a password, the services' roles get the same one; with IAM authentication they have none.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    connect = partial(psycopg.connect, conninfo, **parameters)
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=connect, poolclass=sqlalchemy.NullPool)
    # Concurrent deployments wait for each other: the session's lock goes with this connection.
    with connect(autocommit=True) as administrator:
        administrator.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        _create_roles_and_schemas(administrator, iam_authentication)
        with engine.connect() as connection:
            return [_migrate_schema(connection, schema, (revisions or {}).get(schema, "head")) for schema in SERVICES]


def _create_roles_and_schemas(connection: psycopg.Connection, iam_authentication: bool) -> None:
    password = "" if iam_authentication else connection.info.password
    with connection.transaction():
        for extension in EXTENSIONS:
            connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(extension)))
        for service in SERVICES:
            name = sql.Identifier(service)
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (service,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
            if password:
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(password)))
            for setting, value in ROLE_SETTINGS.items():
                connection.execute(
                    sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.Identifier(setting), sql.Literal(value))
                )
            if iam_authentication:
                connection.execute(sql.SQL("GRANT rds_iam TO {}").format(name))
            # The administrator of a managed database is no superuser: it must be a member to hand over ownership.
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {0} AUTHORIZATION {0}").format(name))
            connection.execute(sql.SQL("REVOKE ALL ON SCHEMA {} FROM PUBLIC").format(name))
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def _migrate_schema(connection: sqlalchemy.Connection, schema: str, revision: str) -> MigratedSchema:
    config = Config()
    config.set_main_option("script_location", str(_PACKAGE / "operations" / "migrations"))
    config.set_main_option("version_locations", str(_PACKAGE / schema / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    before = _revision(connection, schema)
    connection.exec_driver_sql(f"SET ROLE {schema}")
    try:
        command.upgrade(config, revision)
        connection.commit()
    finally:
        connection.rollback()
        connection.exec_driver_sql("RESET ROLE")
        connection.commit()
    return MigratedSchema(schema, before, _revision(connection, schema))


def _revision(connection: sqlalchemy.Connection, schema: str) -> str | None:
    context = MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": schema}
    )
    revision = context.get_current_revision()
    connection.rollback()
    return revision
