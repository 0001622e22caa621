"""Series: the rule that events were made by, and the date of it that each of them stands for."""

from alembic import op

revision = "catalog_0007"
down_revision = "catalog_0006"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE catalog.series (
            id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            organizer_id   bigint      NOT NULL REFERENCES catalog.users (id),
            rule           text        NOT NULL,
            starts_on      date        NOT NULL,
            excluded_dates date[]      NOT NULL,
            extra_dates    date[]      NOT NULL,
            created_at     timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX series_by_organizer ON catalog.series (organizer_id, id)")
    op.execute(
        """
        ALTER TABLE catalog.events
          ADD COLUMN series_id bigint REFERENCES catalog.series (id),
          ADD COLUMN series_date date,
          ADD CONSTRAINT of_a_series_or_not CHECK ((series_id IS NULL) = (series_date IS NULL))
        """
    )
    # Most events are in none.
    op.execute(
        """
        CREATE UNIQUE INDEX one_occurrence_per_date
            ON catalog.events (series_id, series_date)
         WHERE series_id IS NOT NULL
        """
    )
