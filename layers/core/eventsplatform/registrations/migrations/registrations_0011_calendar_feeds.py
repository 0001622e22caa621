"""Calendars that people subscribe to, by the hash of the secret in their addresses."""

from alembic import op

revision = "registrations_0011"
down_revision = "registrations_0010"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE registrations.calendar_feeds (
            user_id    bigint      PRIMARY KEY,
            token_hash bytea       NOT NULL UNIQUE CHECK (length(token_hash) = 32),
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
