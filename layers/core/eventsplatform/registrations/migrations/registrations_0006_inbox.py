"""The messages that had their effect here, by consumer, source, id and replay."""

from alembic import op

revision = "registrations_0006"
down_revision = "registrations_0005"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE registrations.inbox (
            id          bytea       PRIMARY KEY,
            fingerprint bytea,
            outcome     jsonb,
            created_at  timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX inbox_age ON registrations.inbox (created_at)")
