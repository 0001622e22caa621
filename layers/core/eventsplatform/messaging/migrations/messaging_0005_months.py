"""The outbox by month. What there is becomes the first partition as it is; its ids are counted on from."""

from alembic import op

revision = "messaging_0005"
down_revision = "messaging_0004"

APPENDING_ROLES = "identity, catalog, registrations"


def upgrade() -> None:
    op.execute("ALTER TABLE messaging.outbox RENAME TO outbox_before")
    op.execute("ALTER INDEX messaging.outbox_pending RENAME TO outbox_before_pending")
    op.execute("ALTER INDEX messaging.outbox_actor RENAME TO outbox_before_actor")
    op.execute("ALTER INDEX messaging.outbox_registrations RENAME TO outbox_before_registrations")
    # A key of its own would have to contain occurred_at, and so take a version twice: each partition has one instead.
    op.execute(
        """
        CREATE TABLE messaging.outbox (
            id             bigint      GENERATED ALWAYS AS IDENTITY,
            shard          smallint    NOT NULL,
            aggregate_type text        NOT NULL,
            aggregate_id   bigint      NOT NULL,
            version        integer     NOT NULL,
            type           text        NOT NULL,
            partition_key  text        NOT NULL,
            payload        jsonb       NOT NULL,
            actor_id       bigint,
            traceparent    text        NOT NULL,
            occurred_at    timestamptz NOT NULL DEFAULT now(),
            published_at   timestamptz
        ) PARTITION BY RANGE (occurred_at)
        """
    )
    op.execute("CREATE INDEX outbox_pending ON messaging.outbox (shard, id) WHERE published_at IS NULL")
    op.execute("CREATE INDEX outbox_actor ON messaging.outbox (actor_id, id)")
    op.execute(
        """
        CREATE INDEX outbox_registrations ON messaging.outbox (partition_key) WHERE aggregate_type = 'registration'
        """
    )
    op.execute(f"GRANT INSERT ON messaging.outbox TO {APPENDING_ROLES}")
    op.execute(
        """
        SELECT setval(pg_get_serial_sequence('messaging.outbox', 'id'),
                      nextval(pg_get_serial_sequence('messaging.outbox_before', 'id')))
        """
    )
    # The version's index found what the id's did, and the relay looks among the pending rows alone.
    op.execute(
        """
        ALTER TABLE messaging.outbox_before
              ALTER COLUMN id DROP IDENTITY,
              DROP CONSTRAINT outbox_pkey,
              DROP CONSTRAINT outbox_aggregate_type_aggregate_id_version_key
        """
    )
    op.execute(f"REVOKE INSERT ON messaging.outbox_before FROM {APPENDING_ROLES}")
    _make_months()


def _make_months() -> None:
    """The month under way, which has everything until now as well, and the two after it."""
    op.execute(
        """
        DO $$
        DECLARE
            first date;
            partition text;
        BEGIN
            FOR number IN 0..2 LOOP
                first := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => number);
                partition := to_char(first, '"outbox_"YYYY_MM');
                IF number = 0 THEN
                    EXECUTE format('ALTER TABLE messaging.outbox_before RENAME TO %I', partition);
                ELSE
                    EXECUTE format('CREATE TABLE messaging.%I (LIKE messaging.outbox '
                                   'INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
                END IF;
                EXECUTE format('ALTER TABLE messaging.%I ADD PRIMARY KEY (aggregate_type, aggregate_id, version)',
                               partition);
                EXECUTE format('ALTER TABLE messaging.%I SET (autovacuum_vacuum_scale_factor = 0, '
                               'autovacuum_vacuum_threshold = 20000)', partition);
                EXECUTE format('ALTER TABLE messaging.outbox ATTACH PARTITION messaging.%I '
                               'FOR VALUES FROM (%s) TO (%L)', partition,
                               CASE number WHEN 0 THEN 'MINVALUE' ELSE quote_literal(first || ' 00:00:00+00') END,
                               (first + interval '1 month')::date || ' 00:00:00+00');
            END LOOP;
        END
        $$
        """
    )
