"""Finding what the event store has of an event's registrations, to count them as they were."""

from alembic import op

revision = "messaging_0004"
down_revision = "messaging_0003"


def upgrade() -> None:
    # Equal keys share an entry: of a hot event's rows each is appended to one.
    op.execute(
        """
        CREATE INDEX outbox_registrations ON messaging.outbox (partition_key) WHERE aggregate_type = 'registration'
        """
    )
