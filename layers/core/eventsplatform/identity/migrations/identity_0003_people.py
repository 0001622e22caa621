"""Finding accounts, and why sessions end when access changes."""

from alembic import op

revision = "identity_0003"
down_revision = "identity_0002"

END_REASONS = (
    "logout",
    "revoked",
    "token_reused",
    "password_changed",
    "password_reset",
    "verification",
    "access_changed",
    "suspension",
    "erasure",
)


def upgrade() -> None:
    allowed = ", ".join(f"'{reason}'" for reason in END_REASONS)
    op.execute("ALTER TABLE identity.sessions DROP CONSTRAINT sessions_end_reason_check")
    op.execute(
        f"ALTER TABLE identity.sessions ADD CONSTRAINT sessions_end_reason_check CHECK (end_reason IN ({allowed}))"
    )
    # Part of a name or of an address, whatever the case.
    op.execute(
        """
        CREATE INDEX users_found_by_text ON identity.users
         USING gin (name public.gin_trgm_ops, (email::text) public.gin_trgm_ops)
        """
    )
    op.execute("CREATE INDEX users_administrators ON identity.users (id) WHERE role = 'admin' AND status = 'active'")
