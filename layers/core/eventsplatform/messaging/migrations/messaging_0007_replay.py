"""Finding what happened in a time, and what came next.

Rows stand in the table about as they came, so a summary of each few pages is all that is needed, and all that costs who
appends.
"""

from alembic import op

revision = "messaging_0007"
down_revision = "messaging_0006"


def upgrade() -> None:
    op.execute(
        """
        CREATE INDEX outbox_came ON messaging.outbox USING brin (id, occurred_at)
          WITH (pages_per_range = 32, autosummarize = on)
        """
    )
