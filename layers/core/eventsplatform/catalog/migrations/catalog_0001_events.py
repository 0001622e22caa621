"""Events, their categories, and the organisers' names as identity tells them."""

from alembic import op

revision = "catalog_0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE catalog.categories (slug text PRIMARY KEY)")
    op.execute(
        """
        INSERT INTO catalog.categories (slug)
        VALUES ('tech'), ('business'), ('arts'), ('sports'), ('music'), ('food'), ('health'), ('education'),
               ('community')
        """
    )
    op.execute(
        """
        CREATE TABLE catalog.users (
            id      bigint  PRIMARY KEY,
            name    text    NOT NULL,
            version integer NOT NULL
        )
        """
    )
    op.execute(
        """
        CREATE TABLE catalog.events (
            id             bigint        GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            title          text          NOT NULL CHECK (length(title) BETWEEN 3 AND 255),
            description    text          NOT NULL CHECK (length(description) <= 5000),
            starts_at      timestamptz   NOT NULL,
            ends_at        timestamptz   NOT NULL CHECK (ends_at > starts_at),
            timezone       text          NOT NULL,
            location_name  text          NOT NULL CHECK (length(location_name) BETWEEN 1 AND 500),
            latitude       double precision CHECK (latitude BETWEEN -90 AND 90),
            longitude      double precision CHECK (longitude BETWEEN -180 AND 180),
            capacity       integer       NOT NULL CHECK (capacity BETWEEN 1 AND 100000),
            category       text          NOT NULL REFERENCES catalog.categories (slug),
            tags           text[]        NOT NULL DEFAULT '{}',
            price_amount   numeric(12,2) NOT NULL CHECK (price_amount >= 0),
            price_currency char(3)       NOT NULL,
            status         text          NOT NULL DEFAULT 'draft'
                           CHECK (status IN ('draft', 'published', 'completed', 'cancelled')),
            organizer_id   bigint        NOT NULL REFERENCES catalog.users (id),
            registered     integer       NOT NULL DEFAULT 0,
            waitlisted     integer       NOT NULL DEFAULT 0,
            counts_version bigint        NOT NULL DEFAULT 0,
            version        integer       NOT NULL DEFAULT 1,
            created_at     timestamptz   NOT NULL DEFAULT now(),
            updated_at     timestamptz   NOT NULL DEFAULT now(),
            CHECK ((latitude IS NULL) = (longitude IS NULL))
        )
        """
    )
    op.execute("CREATE INDEX events_organizer ON catalog.events (organizer_id, id)")
    op.execute("CREATE INDEX events_upcoming ON catalog.events (starts_at, id) WHERE status = 'published'")
