"""The requests that had their effect here, by their Idempotency-Key."""

from alembic import op

revision = "registrations_0002"
down_revision = "registrations_0001"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE registrations.idempotency_keys (
            id          bytea       PRIMARY KEY,
            fingerprint bytea       NOT NULL,
            outcome     jsonb       NOT NULL,
            created_at  timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX idempotency_keys_age ON registrations.idempotency_keys (created_at)")
