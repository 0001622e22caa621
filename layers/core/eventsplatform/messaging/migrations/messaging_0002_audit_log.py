"""The audit log: services add to it, and none can change or read what is there."""

from alembic import op

revision = "messaging_0002"
down_revision = "messaging_0001"

APPENDING_ROLES = "identity, catalog, registrations"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE messaging.audit_log (
            id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            action       text        NOT NULL,
            subject_type text        NOT NULL,
            subject_id   bigint      NOT NULL,
            actor_id     bigint,
            details      jsonb       NOT NULL DEFAULT '{}',
            traceparent  text        NOT NULL,
            occurred_at  timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX audit_log_subject ON messaging.audit_log (subject_type, subject_id, id)")
    op.execute("CREATE INDEX audit_log_actor ON messaging.audit_log (actor_id, id)")
    op.execute(f"GRANT INSERT ON messaging.audit_log TO {APPENDING_ROLES}")
    # The owner is the relay's role, which has no business here either; only an administrator removes this.
    op.execute(
        """
        CREATE FUNCTION messaging.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the audit log is only added to';
        END
        $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER audit_log_is_final
            BEFORE UPDATE OR DELETE OR TRUNCATE ON messaging.audit_log
            FOR EACH STATEMENT EXECUTE FUNCTION messaging.refuse_change()
        """
    )
