"""Places in parts that can be taken at the same time, a line with its own numbers, and registrations by month."""

from alembic import op

revision = "registrations_0004"
down_revision = "registrations_0003"


def upgrade() -> None:
    _add_places()
    _add_registrations_by_month()
    _add_line_and_offers()
    _carry_over()


def _add_places() -> None:
    # A page keeps room for the next versions of its rows: an update that touches no index then needs no other page.
    op.execute(
        """
        CREATE TABLE registrations.places (
            event_id    bigint   NOT NULL REFERENCES registrations.events (event_id),
            part        smallint NOT NULL,
            capacity    integer  NOT NULL,
            taken       integer  NOT NULL DEFAULT 0,
            waiting     integer  NOT NULL DEFAULT 0 CHECK (waiting >= 0),
            last_ticket bigint   NOT NULL DEFAULT 0,
            version     bigint   NOT NULL DEFAULT 0,
            PRIMARY KEY (event_id, part),
            CONSTRAINT never_oversold CHECK (taken BETWEEN 0 AND capacity)
        ) WITH (fillfactor = 40)
        """
    )


def _add_registrations_by_month() -> None:
    op.execute("ALTER TABLE registrations.event_registrations RENAME TO registrations_before")
    op.execute(
        "ALTER TABLE registrations.registrations_before RENAME CONSTRAINT event_registrations_pkey TO before_pkey"
    )
    op.execute("DROP INDEX registrations.registrations_of_user, registrations.one_registration_per_person")
    op.execute("CREATE SEQUENCE registrations.registration_ids")
    # No foreign key to the event: its row would be share-locked by every registration, and events are never deleted.
    op.execute(
        """
        CREATE TABLE registrations.event_registrations (
            id               bigint      NOT NULL DEFAULT nextval('registrations.registration_ids'),
            event_id         bigint      NOT NULL,
            user_id          bigint      NOT NULL,
            status           text        NOT NULL
                             CHECK (status IN ('active', 'waitlisted', 'offered', 'cancelled', 'checked_in')),
            part             smallint,
            ticket           bigint,
            version          integer     NOT NULL DEFAULT 1,
            registered_at    timestamptz NOT NULL DEFAULT now(),
            offer_expires_at timestamptz,
            PRIMARY KEY (id, registered_at),
            CONSTRAINT holds_a_place CHECK ((part IS NOT NULL) = (status IN ('active', 'offered', 'checked_in'))),
            CONSTRAINT offers_expire CHECK ((offer_expires_at IS NOT NULL) = (status = 'offered'))
        ) PARTITION BY RANGE (registered_at)
        """
    )
    op.execute("CREATE INDEX registrations_of_event ON registrations.event_registrations (event_id, registered_at, id)")
    op.execute("CREATE INDEX registrations_of_user ON registrations.event_registrations (user_id, registered_at, id)")
    # Unique across partitions, which no index of a partitioned table is; and where a person's registration is.
    op.execute(
        """
        CREATE TABLE registrations.holders (
            event_id        bigint      NOT NULL,
            user_id         bigint      NOT NULL,
            registration_id bigint      NOT NULL,
            registered_at   timestamptz NOT NULL,
            CONSTRAINT one_registration_per_person PRIMARY KEY (event_id, user_id)
        )
        """
    )
    op.execute(
        """
        DO $$
        DECLARE
            first date := (SELECT coalesce(min(registered_at), now()) AT TIME ZONE 'UTC'
                             FROM registrations.registrations_before);
            month date;
        BEGIN
            FOR month IN SELECT generate_series(date_trunc('month', first::timestamp),
                                                date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months',
                                                interval '1 month')
            LOOP
                EXECUTE format('CREATE TABLE registrations.%I PARTITION OF registrations.event_registrations '
                               'FOR VALUES FROM (%L) TO (%L)',
                               to_char(month, '"event_registrations_"YYYY_MM'),
                               month::text || ' 00:00:00+00',
                               (month + interval '1 month')::date::text || ' 00:00:00+00');
            END LOOP;
        END
        $$
        """
    )


def _add_line_and_offers() -> None:
    op.execute(
        """
        CREATE TABLE registrations.waitlist (
            event_id        bigint      NOT NULL,
            ticket          bigint      NOT NULL,
            registration_id bigint      NOT NULL,
            registered_at   timestamptz NOT NULL,
            PRIMARY KEY (event_id, ticket)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE registrations.offers (
            registration_id bigint      PRIMARY KEY,
            registered_at   timestamptz NOT NULL,
            event_id        bigint      NOT NULL,
            expires_at      timestamptz NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX offers_of_event ON registrations.offers (event_id, expires_at)")
    op.execute("CREATE INDEX offers_by_expiry ON registrations.offers (expires_at, event_id)")


def _carry_over() -> None:
    """What there was has its places in the first part, so that the counts told so far continue as that part's."""
    op.execute(
        """
        INSERT INTO registrations.event_registrations
               (id, event_id, user_id, status, part, ticket, version, registered_at)
        SELECT id, event_id, user_id, status,
               CASE WHEN status IN ('active', 'checked_in') THEN 0 END,
               CASE WHEN status = 'waitlisted'
                    THEN row_number() OVER (PARTITION BY event_id, status ORDER BY id) END,
               version, registered_at
          FROM registrations.registrations_before
        """
    )
    op.execute(
        """
        SELECT setval('registrations.registration_ids', max(id))
          FROM registrations.registrations_before
        HAVING max(id) IS NOT NULL
        """
    )
    op.execute("DROP TABLE registrations.registrations_before")
    op.execute("ALTER SEQUENCE registrations.registration_ids OWNED BY registrations.event_registrations.id")
    op.execute(
        """
        INSERT INTO registrations.holders (event_id, user_id, registration_id, registered_at)
        SELECT event_id, user_id, id, registered_at
          FROM registrations.event_registrations
         WHERE status <> 'cancelled'
        """
    )
    op.execute(
        """
        INSERT INTO registrations.waitlist (event_id, ticket, registration_id, registered_at)
        SELECT event_id, ticket, id, registered_at
          FROM registrations.event_registrations
         WHERE status = 'waitlisted'
        """
    )
    op.execute(
        """
        INSERT INTO registrations.places (event_id, part, capacity, taken, waiting, last_ticket, version)
        SELECT event.event_id, part,
               event.free / 16 + (part < event.free % 16)::int + CASE WHEN part = 0 THEN event.registered ELSE 0 END,
               CASE WHEN part = 0 THEN event.registered ELSE 0 END,
               CASE WHEN part = 0 THEN event.waitlisted ELSE 0 END,
               CASE WHEN part = 0 THEN event.waitlisted ELSE 0 END,
               CASE WHEN part = 0 THEN event.counts_version ELSE 0 END
          FROM (SELECT *, CASE WHEN waitlisted > 0 THEN 0 ELSE greatest(0, capacity - registered) END AS free
                  FROM registrations.events) AS event
         CROSS JOIN generate_series(0, 15) AS part
        """
    )
    op.execute(
        """
        ALTER TABLE registrations.events
              DROP COLUMN registered, DROP COLUMN waitlisted, DROP COLUMN counts_version
        """
    )
