"""Owners of webhooks that were disabled for them are told."""

from alembic import op

revision = "registrations_0010"
down_revision = "registrations_0009"


def upgrade() -> None:
    op.execute("ALTER TABLE registrations.webhooks ADD COLUMN owner_untold boolean NOT NULL DEFAULT false")
    op.execute("CREATE INDEX webhooks_untold ON registrations.webhooks (id) WHERE owner_untold")
