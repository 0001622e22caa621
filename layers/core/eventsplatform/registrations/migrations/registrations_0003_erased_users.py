"""Who has been erased registers no more, not even with a request that was on its way."""

from alembic import op

revision = "registrations_0003"
down_revision = "registrations_0002"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE registrations.erased_users (
            user_id   bigint      PRIMARY KEY,
            erased_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
