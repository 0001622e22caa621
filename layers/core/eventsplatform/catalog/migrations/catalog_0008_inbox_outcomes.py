"""What commands were answered is kept beside them, and is to be forgotten with their organisers."""

from alembic import op

revision = "catalog_0008"
down_revision = "catalog_0007"


def upgrade() -> None:
    op.execute(
        """
        CREATE INDEX inbox_organizer ON catalog.inbox ((outcome #>> '{result,organizer,id}'))
         WHERE outcome IS NOT NULL
        """
    )
