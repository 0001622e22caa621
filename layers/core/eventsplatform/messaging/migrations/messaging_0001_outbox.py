"""The outbox, which every service may append to, and the leases of its relays."""

from alembic import op

revision = "messaging_0001"
down_revision = None

APPENDING_ROLES = "identity, catalog, registrations"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE messaging.outbox (
            id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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
            published_at   timestamptz,
            UNIQUE (aggregate_type, aggregate_id, version)
        )
        """
    )
    # Pending rows are found by flag: a cursor over ids would skip a transaction that commits late.
    op.execute("CREATE INDEX outbox_pending ON messaging.outbox (shard, id) WHERE published_at IS NULL")
    op.execute(
        """
        CREATE TABLE messaging.relay_leases (
            shard      smallint    PRIMARY KEY,
            holder     uuid        NOT NULL,
            fence      bigint      NOT NULL,
            expires_at timestamptz NOT NULL
        )
        """
    )
    op.execute(f"GRANT USAGE ON SCHEMA messaging TO {APPENDING_ROLES}")
    op.execute(f"GRANT INSERT ON messaging.outbox TO {APPENDING_ROLES}")
