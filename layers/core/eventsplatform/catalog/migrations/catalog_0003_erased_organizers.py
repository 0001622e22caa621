"""Organisers who are to be forgotten get no event any more."""

from alembic import op

revision = "catalog_0003"
down_revision = "catalog_0002"


def upgrade() -> None:
    op.execute("ALTER TABLE catalog.users ADD COLUMN erased boolean NOT NULL DEFAULT false")
    # What was answered to them is kept for a while, to be answered again.
    op.execute(
        "CREATE INDEX idempotency_keys_organizer ON catalog.idempotency_keys ((outcome #>> '{result,organizer,id}'))"
    )
