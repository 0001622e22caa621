"""Tickets and check-ins: what ended a ticket, who has come, and in which order devices at the door learn of it."""

from alembic import op

revision = "registrations_0009"
down_revision = "registrations_0008"


def upgrade() -> None:
    # One row per event, locked last by everyone who changes what devices have to learn: so the numbers that it gives
    # are in the order of the commits, and who has read up to one has missed none before it.
    op.execute(
        """
        CREATE TABLE registrations.doors (
            event_id   bigint  PRIMARY KEY,
            checked_in integer NOT NULL DEFAULT 0 CHECK (checked_in >= 0),
            number     bigint  NOT NULL
        ) WITH (fillfactor = 50)
        """
    )
    # Without a row the ticket with serial 1 is the good one, and with one that of the next serial: registering writes
    # nothing here.
    op.execute(
        """
        CREATE TABLE registrations.revoked_tickets (
            registration_id bigint      PRIMARY KEY,
            event_id        bigint      NOT NULL,
            serial          integer     NOT NULL,
            number          bigint      NOT NULL,
            revoked_at      timestamptz NOT NULL
        )
        """
    )
    op.execute("CREATE UNIQUE INDEX revoked_tickets_of_event ON registrations.revoked_tickets (event_id, number)")
    # What was undone stays: a scan that is sent again must not be taken for a new one.
    op.execute(
        """
        CREATE TABLE registrations.check_ins (
            id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            registration_id bigint      NOT NULL,
            event_id        bigint      NOT NULL,
            user_id         bigint      NOT NULL,
            scan_id         uuid        NOT NULL,
            checked_in_at   timestamptz NOT NULL,
            checked_in_by   bigint      NOT NULL,
            recorded_at     timestamptz NOT NULL DEFAULT now(),
            undone_at       timestamptz,
            undone_by       bigint,
            number          bigint      NOT NULL,
            CONSTRAINT one_scan_of_a_ticket UNIQUE (registration_id, scan_id),
            CONSTRAINT undone_by_someone CHECK ((undone_at IS NULL) = (undone_by IS NULL))
        )
        """
    )
    op.execute(
        """
        CREATE UNIQUE INDEX one_check_in_per_registration
            ON registrations.check_ins (registration_id)
         WHERE undone_at IS NULL
        """
    )
    op.execute("CREATE UNIQUE INDEX check_ins_of_event ON registrations.check_ins (event_id, number)")
    op.execute("CREATE INDEX check_ins_of_user ON registrations.check_ins (user_id, id)")
    op.execute(
        """
        CREATE TABLE registrations.ticket_keys (
            kid      text        PRIMARY KEY,
            x        text        NOT NULL,
            added_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
