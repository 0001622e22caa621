"""Cancellation with a reason, teams, and an index for each way in which events are listed."""

from alembic import op

revision = "catalog_0004"
down_revision = "catalog_0003"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE catalog.events
          ADD COLUMN cancellation_reason text CHECK (length(cancellation_reason) BETWEEN 1 AND 500)
        """
    )
    op.execute(
        """
        CREATE TABLE catalog.team_members (
            event_id bigint      NOT NULL REFERENCES catalog.events (id) ON DELETE CASCADE,
            user_id  bigint      NOT NULL REFERENCES catalog.users (id),
            role     text        NOT NULL CHECK (role IN ('manager', 'check_in')),
            added_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (event_id, user_id)
        )
        """
    )
    op.execute("CREATE INDEX team_members_user ON catalog.team_members (user_id, event_id)")
    # Lists are in the order of the start; each filter that has an index of its own comes before it.
    op.execute("CREATE INDEX events_by_start ON catalog.events (status, starts_at, id)")
    op.execute("CREATE INDEX events_by_category ON catalog.events (category, status, starts_at, id)")
    op.execute("CREATE INDEX events_by_organizer ON catalog.events (organizer_id, starts_at, id)")
    op.execute("CREATE INDEX events_to_complete ON catalog.events (ends_at, id) WHERE status = 'published'")
    op.execute("DROP INDEX catalog.events_upcoming")
