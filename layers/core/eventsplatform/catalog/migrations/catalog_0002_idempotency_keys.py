"""The requests that had their effect here, by their Idempotency-Key."""

from alembic import op

revision = "catalog_0002"
down_revision = "catalog_0001"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE catalog.idempotency_keys (
            id          bytea       PRIMARY KEY,
            fingerprint bytea       NOT NULL,
            outcome     jsonb       NOT NULL,
            created_at  timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX idempotency_keys_age ON catalog.idempotency_keys (created_at)")
