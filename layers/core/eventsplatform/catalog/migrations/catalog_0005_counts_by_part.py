"""Registration counts by part of an event's places, as registrations tells them; an event's counts are their sums."""

from alembic import op

revision = "catalog_0005"
down_revision = "catalog_0004"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE catalog.event_counts (
            event_id   bigint   NOT NULL REFERENCES catalog.events (id) ON DELETE CASCADE,
            part       smallint NOT NULL,
            registered integer  NOT NULL,
            waitlisted integer  NOT NULL,
            version    bigint   NOT NULL,
            PRIMARY KEY (event_id, part)
        ) WITH (fillfactor = 40)
        """
    )
    # What was told so far is all of the first part, at registrations as here.
    op.execute(
        """
        INSERT INTO catalog.event_counts (event_id, part, registered, waitlisted, version)
        SELECT id, 0, registered, waitlisted, counts_version FROM catalog.events WHERE counts_version > 0
        """
    )
