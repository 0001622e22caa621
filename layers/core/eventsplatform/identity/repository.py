"""The SQL of accounts."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from eventsplatform.identity.account_mails import MailRequest, Outcome, Recipient, TokenPurpose
from eventsplatform.identity.model import ROLE_PERMISSIONS, Account, SignUp, User, UserSummary
from eventsplatform.identity.service import NewAccount, PendingSignUp
from eventsplatform.identity.sessions_repository import PostgresSessions, account_of, user_of


class PostgresIdentity(PostgresSessions):
    """Accounts; and their sessions, which end with what happens to the account."""

    def add_sign_up(self, sign_up_id: UUID, sign_up: SignUp, password_hash: str, now: datetime) -> None:
        self._connection.execute(
            """
            INSERT INTO identity.sign_ups (id, email, name, password_hash, created_at)
            VALUES (%s, %s, %s, %s, %s)
            """,
            (sign_up_id, sign_up.email, sign_up.name, password_hash, now),
        )

    def add_user(self, account: NewAccount) -> UserSummary | None:
        row = self._connection.execute(
            """
            INSERT INTO identity.users (email, password_hash, name, role, permissions, verified_at)
            VALUES (%s, %s, %s, 'user', %s, %s)
            ON CONFLICT (email) DO NOTHING
            RETURNING id, name, version
            """,
            (
                account.sign_up.email,
                account.password_hash,
                account.sign_up.name,
                list(ROLE_PERMISSIONS["user"]),
                account.verified_at,
            ),
        ).fetchone()
        return UserSummary(**row) if row else None

    def find_user(self, user_id: int) -> User | None:
        row = self._connection.execute(
            """
            SELECT id, email, name, role, permissions, status, verified_at, created_at
              FROM identity.users
             WHERE id = %s
            """,
            (user_id,),
        ).fetchone()
        return user_of(row) if row else None

    def find_account_of(self, user_id: int, network: str) -> Account | None:
        row = self._connection.execute(
            """
            SELECT account.*,
                   EXISTS (SELECT FROM identity.known_networks WHERE user_id = account.id AND network = %s) AS known
              FROM identity.users AS account
             WHERE id = %s
            """,
            (network, user_id),
        ).fetchone()
        return account_of(row, known_network=row["known"]) if row else None

    def lock_account(self, user_id: int) -> Account | None:
        row = self._connection.execute(
            "SELECT * FROM identity.users WHERE id = %s FOR NO KEY UPDATE",
            (user_id,),
        ).fetchone()
        return account_of(row) if row else None

    def find_summary(self, user_id: int) -> UserSummary | None:
        row = self._connection.execute(
            """
            SELECT id, name, version, status = 'suspended' AS suspended
              FROM identity.users
             WHERE id = %s AND status <> 'erased'
            """,
            (user_id,),
        ).fetchone()
        return UserSummary(**row) if row else None

    def find_reset_account(self, token_hash: bytes, now: datetime) -> Account | None:
        row = self._connection.execute(
            """
            SELECT account.*
              FROM identity.one_time_tokens AS token
              JOIN identity.users AS account ON account.id = token.user_id
             WHERE token.token_hash = %s AND token.purpose = 'reset_password'
               AND token.spent_at IS NULL AND token.expires_at > %s
            """,
            (token_hash, now),
        ).fetchone()
        return account_of(row) if row else None

    def spend_verification(self, token_hash: bytes, now: datetime) -> PendingSignUp | None:
        # The account first, as everywhere: another token of the same address may be spent at the same time.
        account = self._connection.execute(
            """
            SELECT *
              FROM identity.users
             WHERE email = (SELECT sign_up.email
                              FROM identity.one_time_tokens AS token
                              JOIN identity.sign_ups AS sign_up ON sign_up.id = token.sign_up_id
                             WHERE token.token_hash = %s)
               FOR NO KEY UPDATE
            """,
            (token_hash,),
        )
        sign_up = self._connection.execute(
            """
            WITH token AS (
                UPDATE identity.one_time_tokens
                   SET spent_at = %(now)s
                 WHERE token_hash = %(token_hash)s AND purpose = 'verify_email'
                   AND spent_at IS NULL AND expires_at > %(now)s
                RETURNING sign_up_id
            )
            SELECT id, name, password_hash FROM identity.sign_ups WHERE id = (SELECT sign_up_id FROM token)
            """,
            {"token_hash": token_hash, "now": now},
        ).fetchone()
        row = account.fetchone()
        if sign_up is None or row is None:
            return None
        return PendingSignUp(sign_up["id"], sign_up["name"], sign_up["password_hash"], account_of(row))

    def spend_reset(self, token_hash: bytes, now: datetime) -> Account | None:
        account = self._connection.execute(
            """
            SELECT *
              FROM identity.users
             WHERE id = (SELECT user_id FROM identity.one_time_tokens WHERE token_hash = %s)
               FOR NO KEY UPDATE
            """,
            (token_hash,),
        )
        spent = self._connection.execute(
            """
            UPDATE identity.one_time_tokens
               SET spent_at = %(now)s
             WHERE token_hash = %(token_hash)s AND purpose = 'reset_password'
               AND spent_at IS NULL AND expires_at > %(now)s
            RETURNING user_id
            """,
            {"token_hash": token_hash, "now": now},
        ).fetchone()
        row = account.fetchone()
        return account_of(row) if spent and row else None

    def confirm(self, user_id: int, now: datetime) -> UserSummary:
        row = self._connection.execute(
            """
            UPDATE identity.users
               SET verified_at = %s, version = version + 1, updated_at = now()
             WHERE id = %s
            RETURNING id, name, version, status = 'suspended' AS suspended, email
            """,
            (now, user_id),
        ).fetchone()
        assert row is not None
        # With their tokens.
        self._connection.execute("DELETE FROM identity.sign_ups WHERE email = %s", (row["email"],))
        return UserSummary.model_validate(row)

    def take_over(self, user_id: int, name: str, password_hash: str) -> None:
        self._connection.execute(
            "UPDATE identity.users SET name = %s, password_hash = %s WHERE id = %s", (name, password_hash, user_id)
        )

    def set_password(self, user_id: int, password_hash: str) -> None:
        # The sign-up that the account began with goes along: to confirm it must not bring back the old password.
        self._connection.execute(
            """
            UPDATE identity.sign_ups
               SET password_hash = %s
              FROM identity.users AS account
             WHERE account.id = %s AND sign_ups.email = account.email
               AND sign_ups.password_hash = account.password_hash
            """,
            (password_hash, user_id),
        )
        self._connection.execute(
            "UPDATE identity.users SET password_hash = %s, updated_at = now() WHERE id = %s", (password_hash, user_id)
        )
        self._connection.execute(
            "DELETE FROM identity.one_time_tokens WHERE user_id = %s AND purpose = 'reset_password'", (user_id,)
        )

    def next_generation(self, user_id: int) -> int:
        row = self._connection.execute(
            """
            UPDATE identity.users
               SET generation = generation + 1, generation_changed_at = now()
             WHERE id = %s
            RETURNING generation
            """,
            (user_id,),
        ).fetchone()
        assert row is not None
        generation: int = row["generation"]
        return generation

    def live_session_until(self, session_id: UUID) -> datetime | None:
        row = self._connection.execute(
            "SELECT expires_at FROM identity.sessions WHERE id = %s AND ended_at IS NULL FOR UPDATE", (session_id,)
        ).fetchone()
        return row["expires_at"] if row else None

    def know_network(self, user_id: int, network: str, now: datetime) -> None:
        self._connection.execute(
            """
            INSERT INTO identity.known_networks (user_id, network, last_used_at)
            VALUES (%s, %s, %s)
            ON CONFLICT (user_id, network) DO UPDATE SET last_used_at = excluded.last_used_at
            """,
            (user_id, network, now),
        )

    # What account_mails needs.

    def begin_mail(self, request: MailRequest, now: datetime, *, since: datetime, at_most: int) -> Outcome | None:
        self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('account_mails:' || lower(%s), 0))", (request.email,)
        )
        row = self._connection.execute(
            """
            SELECT count(*) FILTER (WHERE request_id <> %(request_id)s) AS others,
                   bool_or(request_id = %(request_id)s AND sent_at IS NOT NULL) AS sent
              FROM identity.account_mails
             WHERE email = %(email)s AND purpose = %(purpose)s AND created_at > %(since)s
            """,
            {"request_id": request.request_id, "email": request.email, "purpose": request.purpose, "since": since},
        ).fetchone()
        assert row is not None
        if row["sent"]:
            return "sent_before"
        if row["others"] >= at_most:
            return "too_many"
        self._connection.execute(
            """
            INSERT INTO identity.account_mails (request_id, email, purpose, created_at)
            VALUES (%s, %s, %s, %s)
            ON CONFLICT (request_id) DO NOTHING
            """,
            (request.request_id, request.email, request.purpose, now),
        )
        return None

    def find_recipient(self, email: str, sign_up_id: UUID | None) -> Recipient | None:
        row = self._connection.execute(
            """
            SELECT account.id AS user_id, account.email, account.status, account.verified_at IS NOT NULL AS verified,
                   (SELECT id FROM identity.sign_ups
                     WHERE email = account.email AND (%(sign_up_id)s::uuid IS NULL OR id = %(sign_up_id)s)
                     ORDER BY created_at DESC
                     LIMIT 1) AS sign_up_id
              FROM identity.users AS account
             WHERE email = %(email)s
            """,
            {"email": email, "sign_up_id": sign_up_id},
        ).fetchone()
        return Recipient(**row) if row else None

    def add_one_time_token(
        self,
        token_hash: bytes,
        purpose: TokenPurpose,
        *,
        user_id: int,
        sign_up_id: UUID | None,
        now: datetime,
        expires_at: datetime,
    ) -> None:
        self._connection.execute(
            """
            INSERT INTO identity.one_time_tokens (token_hash, purpose, user_id, sign_up_id, created_at, expires_at)
            VALUES (%s, %s, %s, %s, %s, %s)
            """,
            (token_hash, purpose, user_id, sign_up_id, now, expires_at),
        )

    def mail_sent(self, request_id: UUID, now: datetime) -> None:
        self._connection.execute(
            "UPDATE identity.account_mails SET sent_at = %s WHERE request_id = %s", (now, request_id)
        )
