"""Mails to attendees: those that wait and, for a while, those that went; and what attendees know of events."""

from alembic import op

revision = "registrations_0007"
down_revision = "registrations_0006"


def upgrade() -> None:
    # `due_at` is when a mail is to be sent, or a claim on it ends; none once it is closed.
    op.execute(
        """
        CREATE TABLE registrations.attendee_mails (
            id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            cause           text        NOT NULL,
            kind            text        NOT NULL
                            CHECK (kind IN ('confirmation', 'waitlisted', 'offer', 'offer_expired', 'cancellation',
                                            'event_changed', 'event_cancelled', 'reminder')),
            user_id         bigint      NOT NULL,
            event_id        bigint      NOT NULL,
            registration_id bigint      NOT NULL,
            registered_at   timestamptz NOT NULL,
            schedule        jsonb,
            happened_at     timestamptz NOT NULL,
            attempts        integer     NOT NULL DEFAULT 0,
            due_at          timestamptz,
            closed_at       timestamptz,
            outcome         text
                            CHECK (outcome IN ('sent', 'outdated', 'unreachable', 'unwanted', 'rejected', 'given_up')),
            CONSTRAINT mailed_once UNIQUE (cause, user_id),
            CONSTRAINT due_or_closed CHECK ((due_at IS NULL) = (closed_at IS NOT NULL)
                                        AND (outcome IS NULL) = (closed_at IS NULL))
        )
        """
    )
    op.execute("CREATE INDEX mails_due ON registrations.attendee_mails (due_at, id) WHERE due_at IS NOT NULL")
    op.execute("CREATE INDEX mails_closed ON registrations.attendee_mails (closed_at) WHERE closed_at IS NOT NULL")
    op.execute("CREATE INDEX mails_of_user ON registrations.attendee_mails (user_id, id)")
    # What attendees know of when and where an event is. `announce_at`: when they are told that it has changed.
    op.execute(
        """
        CREATE TABLE registrations.announcements (
            event_id     bigint      PRIMARY KEY,
            schedule     jsonb       NOT NULL,
            changed_at   timestamptz,
            announce_at  timestamptz,
            reminded_for timestamptz
        )
        """
    )
    op.execute(
        "CREATE INDEX announcements_due ON registrations.announcements (announce_at) WHERE announce_at IS NOT NULL"
    )
    op.execute("CREATE INDEX events_by_start ON registrations.events (starts_at) WHERE status = 'published'")
    op.execute(
        """
        INSERT INTO registrations.announcements (event_id, schedule)
        SELECT event_id, jsonb_build_object('starts_at', facts -> 'starts_at', 'ends_at', facts -> 'ends_at',
                                            'timezone', facts -> 'timezone', 'location', facts -> 'location')
          FROM registrations.events
         WHERE status = 'published' AND facts IS NOT NULL
        """
    )
    # What happened before is not mailed about: neither before there were mails, nor while data were loaded.
    op.execute(
        """
        CREATE TABLE registrations.mailing (
            only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
            since    timestamptz NOT NULL
        )
        """
    )
    op.execute("INSERT INTO registrations.mailing (since) VALUES (now())")
