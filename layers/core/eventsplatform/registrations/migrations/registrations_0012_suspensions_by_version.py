"""A message about a person that comes late takes back no suspension, and brings none back."""

from alembic import op

revision = "registrations_0012"
down_revision = "registrations_0011"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE registrations.suspended_users
              ADD COLUMN suspended boolean NOT NULL DEFAULT true,
              ADD COLUMN version bigint NOT NULL DEFAULT 0
        """
    )
