"""Who reads which shard of what comes in over NATS, and how far it has come."""

from alembic import op

revision = "messaging_0006"
down_revision = "messaging_0005"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE messaging.bridge_leases (
            shard             text        PRIMARY KEY,
            holder            uuid        NOT NULL,
            fence             bigint      NOT NULL,
            expires_at        timestamptz NOT NULL,
            stream_created_at timestamptz,
            sequence          bigint      NOT NULL DEFAULT 0
        )
        """
    )
