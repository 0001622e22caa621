"""Alembic's environment: one service's migrations, run as that service's role in that service's schema."""

from alembic import context

connection = context.config.attributes["connection"]
schema = context.config.attributes["schema"]

context.configure(connection=connection, version_table="schema_version", version_table_schema=schema)
with context.begin_transaction():
    context.run_migrations()
