"""Sessions with which partner systems act for a person."""

from alembic import op

revision = "identity_0004"
down_revision = "identity_0003"


def upgrade() -> None:
    op.execute("ALTER TABLE identity.sessions ADD COLUMN partner text CHECK (length(partner) BETWEEN 2 AND 50)")
    op.execute(
        "CREATE INDEX sessions_of_partner ON identity.sessions (partner) WHERE partner IS NOT NULL AND ended_at IS NULL"
    )
