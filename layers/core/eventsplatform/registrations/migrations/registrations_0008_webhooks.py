"""Where organisers are told what happens to their events, what they were told, and who is suspended meanwhile."""

from alembic import op

revision = "registrations_0008"
down_revision = "registrations_0007"


def upgrade() -> None:
    # `switched_at` is when it was enabled or disabled last; `failing_since` is of the first failure since a success;
    # until `paused_until` its receiver is left alone.
    op.execute(
        """
        CREATE TABLE registrations.webhooks (
            id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            user_id         bigint      NOT NULL,
            url             text        NOT NULL,
            description     text        NOT NULL,
            event_types     text[]      NOT NULL,
            event_ids       bigint[],
            enabled         boolean     NOT NULL DEFAULT true,
            disabled_reason text        CHECK (disabled_reason IN ('owner', 'gone', 'failing')),
            switched_at     timestamptz NOT NULL,
            failing_since   timestamptz,
            paused_until    timestamptz,
            created_at      timestamptz NOT NULL,
            updated_at      timestamptz NOT NULL,
            CONSTRAINT disabled_for_a_reason CHECK (enabled = (disabled_reason IS NULL))
        )
        """
    )
    op.execute("CREATE INDEX webhooks_of_user ON registrations.webhooks (user_id, id)")
    op.execute(
        """
        CREATE TABLE registrations.webhook_secrets (
            webhook_id bigint      NOT NULL REFERENCES registrations.webhooks (id) ON DELETE CASCADE,
            id         bigint      GENERATED ALWAYS AS IDENTITY,
            sealed     text        NOT NULL,
            expires_at timestamptz,
            PRIMARY KEY (webhook_id, id)
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX one_current_secret ON registrations.webhook_secrets (webhook_id) WHERE expires_at IS NULL"
    )
    op.execute(
        """
        CREATE TABLE registrations.webhook_deliveries (
            webhook_id       bigint      NOT NULL REFERENCES registrations.webhooks (id) ON DELETE CASCADE,
            id               bigint      GENERATED ALWAYS AS IDENTITY,
            message_id       text        NOT NULL,
            type             text        NOT NULL,
            event_id         bigint,
            event_version    bigint,
            body             text        NOT NULL,
            status           text        NOT NULL DEFAULT 'pending'
                             CHECK (status IN ('pending', 'delivered', 'failed', 'withdrawn')),
            attempts         integer     NOT NULL DEFAULT 0,
            next_attempt_at  timestamptz,
            leased_until     timestamptz,
            last_attempt_at  timestamptz,
            response_status  integer,
            duration_ms      integer,
            error            text,
            response_excerpt text,
            created_at       timestamptz NOT NULL,
            PRIMARY KEY (webhook_id, id),
            CONSTRAINT one_delivery_per_message UNIQUE (webhook_id, message_id),
            CONSTRAINT pending_has_its_time CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL))
        )
        """
    )
    for index in (
        "deliveries_by_status ON registrations.webhook_deliveries (webhook_id, status, id)",
        "deliveries_by_age ON registrations.webhook_deliveries (created_at)",
        "deliveries_due ON registrations.webhook_deliveries (webhook_id, next_attempt_at, id) WHERE status = 'pending'",
        "deliveries_under_way ON registrations.webhook_deliveries (webhook_id) WHERE leased_until IS NOT NULL",
    ):
        op.execute(f"CREATE INDEX {index}")
    op.execute("CREATE TABLE registrations.suspended_users (user_id bigint PRIMARY KEY)")
