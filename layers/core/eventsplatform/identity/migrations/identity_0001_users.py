"""Users and refresh tokens."""

from alembic import op

revision = "identity_0001"
down_revision = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE identity.users (
            id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            email         citext      NOT NULL UNIQUE CHECK (length(email) <= 254),
            password_hash text        NOT NULL,
            name          text        NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
            role          text        NOT NULL CHECK (role IN ('user', 'moderator', 'admin')),
            permissions   text[]      NOT NULL,
            profile       jsonb       NOT NULL DEFAULT '{}',
            version       integer     NOT NULL DEFAULT 1,
            created_at    timestamptz NOT NULL DEFAULT now(),
            updated_at    timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute(
        """
        CREATE TABLE identity.refresh_tokens (
            id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            family_id  uuid        NOT NULL,
            user_id    bigint      NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
            token_hash bytea       NOT NULL UNIQUE,
            issued_at  timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            spent_at   timestamptz
        )
        """
    )
    op.execute("CREATE INDEX refresh_tokens_user ON identity.refresh_tokens (user_id)")
    op.execute("CREATE INDEX refresh_tokens_family ON identity.refresh_tokens (family_id)")
