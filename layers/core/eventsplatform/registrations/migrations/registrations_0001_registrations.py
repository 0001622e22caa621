"""Registrations, and the events they are for as the catalog tells them."""

from alembic import op

revision = "registrations_0001"
down_revision = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE registrations.events (
            event_id       bigint      PRIMARY KEY,
            organizer_id   bigint      NOT NULL,
            title          text        NOT NULL,
            status         text        NOT NULL,
            starts_at      timestamptz NOT NULL,
            capacity       integer     NOT NULL,
            version        integer     NOT NULL,
            registered     integer     NOT NULL DEFAULT 0 CHECK (registered >= 0),
            waitlisted     integer     NOT NULL DEFAULT 0 CHECK (waitlisted >= 0),
            counts_version bigint      NOT NULL DEFAULT 0
        )
        """
    )
    op.execute(
        """
        CREATE TABLE registrations.event_registrations (
            id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            event_id         bigint      NOT NULL REFERENCES registrations.events (event_id),
            user_id          bigint      NOT NULL,
            status           text        NOT NULL
                             CHECK (status IN ('active', 'waitlisted', 'offered', 'cancelled', 'checked_in')),
            version          integer     NOT NULL DEFAULT 1,
            registered_at    timestamptz NOT NULL DEFAULT now(),
            offer_expires_at timestamptz
        )
        """
    )
    op.execute(
        """
        CREATE UNIQUE INDEX one_registration_per_person
            ON registrations.event_registrations (event_id, user_id)
         WHERE status <> 'cancelled'
        """
    )
    op.execute("CREATE INDEX registrations_of_user ON registrations.event_registrations (user_id, id)")
