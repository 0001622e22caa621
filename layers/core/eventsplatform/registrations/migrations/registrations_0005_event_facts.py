"""What the catalog tells of an event, whole: who helps with it, when it ends, and what mails and calendars say."""

from alembic import op

revision = "registrations_0005"
down_revision = "registrations_0004"


def upgrade() -> None:
    # What is not known of the events that are here comes with their next message, or by asking the catalog.
    op.execute(
        """
        ALTER TABLE registrations.events
              DROP COLUMN title,
              ADD COLUMN ends_at timestamptz,
              ADD COLUMN timezone text NOT NULL DEFAULT 'UTC',
              ADD COLUMN team jsonb NOT NULL DEFAULT '[]',
              ADD COLUMN facts jsonb
        """
    )
    op.execute("UPDATE registrations.events SET ends_at = starts_at")
    op.execute("ALTER TABLE registrations.events ALTER COLUMN ends_at SET NOT NULL")
