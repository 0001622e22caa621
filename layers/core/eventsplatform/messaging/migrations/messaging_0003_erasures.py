"""Finding what the event store knows of a person, and who is to be forgotten."""

from alembic import op

revision = "messaging_0003"
down_revision = "messaging_0002"


def upgrade() -> None:
    op.execute("CREATE INDEX outbox_actor ON messaging.outbox (actor_id, id)")
    op.execute(
        """
        CREATE TABLE messaging.erasures (
            user_id   bigint      PRIMARY KEY,
            erased_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
