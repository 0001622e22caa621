"""Sessions, revocation, verified addresses and one-time tokens."""

from alembic import op

revision = "identity_0002"
down_revision = "identity_0001"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE identity.users
            ADD COLUMN status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'erased')),
            ADD COLUMN suspension_reason     text        CHECK (length(suspension_reason) <= 500),
            ADD COLUMN generation            integer     NOT NULL DEFAULT 1,
            ADD COLUMN generation_changed_at timestamptz,
            ADD COLUMN verified_at           timestamptz,
            ADD COLUMN avatar_url            text        CHECK (length(avatar_url) <= 2048)
        """
    )
    # Who has used the platform so far was never asked to confirm an address.
    op.execute("UPDATE identity.users SET verified_at = created_at")
    # What has to be told to a cache that came back empty.
    op.execute(
        """
        CREATE INDEX users_generation_changed ON identity.users (generation_changed_at)
         WHERE generation_changed_at IS NOT NULL
        """
    )

    op.execute(
        """
        CREATE TABLE identity.sessions (
            id           uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
            user_id      bigint      NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
            created_at   timestamptz NOT NULL DEFAULT now(),
            last_used_at timestamptz NOT NULL DEFAULT now(),
            expires_at   timestamptz NOT NULL,
            address      inet,
            user_agent   text        NOT NULL DEFAULT '' CHECK (length(user_agent) <= 300),
            ended_at     timestamptz,
            end_reason   text
                         CHECK (end_reason IN ('logout', 'revoked', 'token_reused', 'password_changed',
                                               'password_reset', 'verification', 'suspension', 'erasure')),
            CHECK ((ended_at IS NULL) = (end_reason IS NULL))
        )
        """
    )
    op.execute("CREATE INDEX sessions_of_user ON identity.sessions (user_id, created_at DESC, id DESC)")
    op.execute("CREATE INDEX sessions_ended ON identity.sessions (ended_at) WHERE ended_at IS NOT NULL")
    op.execute("CREATE INDEX sessions_expiring ON identity.sessions (expires_at)")

    # A refresh family is a session from here on: those that exist get theirs.
    op.execute(
        """
        INSERT INTO identity.sessions (id, user_id, created_at, last_used_at, expires_at)
        SELECT family_id, user_id, min(issued_at), max(issued_at), min(issued_at) + interval '90 days'
          FROM identity.refresh_tokens
         GROUP BY family_id, user_id
        """
    )
    op.execute("ALTER TABLE identity.refresh_tokens RENAME COLUMN family_id TO session_id")
    op.execute("ALTER INDEX identity.refresh_tokens_family RENAME TO refresh_tokens_session")
    op.execute(
        """
        ALTER TABLE identity.refresh_tokens
            ADD FOREIGN KEY (session_id) REFERENCES identity.sessions (id) ON DELETE CASCADE
        """
    )
    op.execute("CREATE INDEX refresh_tokens_expiring ON identity.refresh_tokens (expires_at)")
    # Rotation leaves one live token in each family, whatever runs at the same time.
    op.execute(
        """
        CREATE UNIQUE INDEX one_live_refresh_token ON identity.refresh_tokens (session_id) WHERE spent_at IS NULL
        """
    )

    op.execute(
        """
        CREATE TABLE identity.token_blacklist (
            jti        text        PRIMARY KEY CHECK (length(jti) <= 100),
            user_id    bigint      NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
            reason     text        NOT NULL,
            revoked_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX token_blacklist_user ON identity.token_blacklist (user_id)")
    op.execute("CREATE INDEX token_blacklist_expiring ON identity.token_blacklist (expires_at)")

    # Every registration, of known addresses too: what it asked for counts once its mail has been answered.
    op.execute(
        """
        CREATE TABLE identity.sign_ups (
            id            uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
            email         citext      NOT NULL CHECK (length(email) <= 254),
            name          text        NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
            password_hash text        NOT NULL,
            created_at    timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX sign_ups_of_address ON identity.sign_ups (email, created_at DESC)")
    op.execute("CREATE INDEX sign_ups_created ON identity.sign_ups (created_at)")

    op.execute(
        """
        CREATE TABLE identity.one_time_tokens (
            token_hash bytea       PRIMARY KEY,
            purpose    text        NOT NULL CHECK (purpose IN ('verify_email', 'reset_password')),
            user_id    bigint      REFERENCES identity.users (id) ON DELETE CASCADE,
            sign_up_id uuid        REFERENCES identity.sign_ups (id) ON DELETE CASCADE,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            spent_at   timestamptz,
            CHECK (CASE purpose WHEN 'verify_email' THEN sign_up_id IS NOT NULL ELSE user_id IS NOT NULL END),
            CHECK (expires_at <= created_at + interval '1 hour')
        )
        """
    )
    op.execute("CREATE INDEX one_time_tokens_user ON identity.one_time_tokens (user_id) WHERE user_id IS NOT NULL")
    op.execute("CREATE INDEX one_time_tokens_sign_up ON identity.one_time_tokens (sign_up_id)")
    op.execute("CREATE INDEX one_time_tokens_expiring ON identity.one_time_tokens (expires_at)")

    # Mails about accounts, so that nobody's mailbox is flooded and a request told twice is answered once.
    op.execute(
        """
        CREATE TABLE identity.account_mails (
            request_id uuid        PRIMARY KEY,
            email      citext      NOT NULL CHECK (length(email) <= 254),
            purpose    text        NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            sent_at    timestamptz
        )
        """
    )
    op.execute("CREATE INDEX account_mails_of_address ON identity.account_mails (email, created_at)")
    op.execute("CREATE INDEX account_mails_created ON identity.account_mails (created_at)")

    # Networks (an IPv4 address, an IPv6 /64) from which the owner of an account has signed in: guesses made
    # elsewhere do not slow the owner down there.
    op.execute(
        """
        CREATE TABLE identity.known_networks (
            user_id      bigint      NOT NULL REFERENCES identity.users (id) ON DELETE CASCADE,
            network      cidr        NOT NULL,
            last_used_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id, network)
        )
        """
    )
    op.execute("CREATE INDEX known_networks_last_used ON identity.known_networks (last_used_at)")

    op.execute(
        """
        CREATE TABLE identity.idempotency_keys (
            id          bytea       PRIMARY KEY,
            fingerprint bytea       NOT NULL,
            outcome     jsonb       NOT NULL,
            created_at  timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX idempotency_keys_age ON identity.idempotency_keys (created_at)")
