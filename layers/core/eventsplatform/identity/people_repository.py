"""The SQL of people's accounts: profiles, access, and what is held about a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from eventsplatform.adapters.postgres import Connection, Row
from eventsplatform.identity.model import UserSummary
from eventsplatform.identity.people import (
    AdministeredUser,
    OwnAccount,
    Profile,
    PublicUser,
    Recipient,
    UserQuery,
    public_part,
)
from eventsplatform.identity.personal_data import ErasedAccount, Owner
from eventsplatform.identity.profiles import KnownUser
from eventsplatform.personal_data import DELETED_NAME

_ACCOUNT = """
    SELECT id, email, name, avatar_url, profile, role, permissions, status, suspension_reason, verified_at,
           version, created_at, updated_at
      FROM identity.users
"""

# How much of what has no end is handed over: the newest.
HELD_MAXIMUM = 1_000

# Every row about a person, whole but for what would let its reader sign in.
_HELD = """
    WITH account AS (
        SELECT * FROM identity.users WHERE id = %(user_id)s
    ), session AS (
        SELECT to_jsonb(held) AS row FROM identity.sessions AS held
         WHERE user_id = %(user_id)s ORDER BY created_at DESC LIMIT %(most)s
    ), refresh_token AS (
        SELECT to_jsonb(held) - 'token_hash' AS row FROM identity.refresh_tokens AS held
         WHERE user_id = %(user_id)s ORDER BY id DESC LIMIT %(most)s
    ), blacklisted AS (
        SELECT to_jsonb(held) AS row FROM identity.token_blacklist AS held
         WHERE user_id = %(user_id)s ORDER BY expires_at DESC LIMIT %(most)s
    ), sign_up AS (
        SELECT id, to_jsonb(held) - 'password_hash' AS row FROM identity.sign_ups AS held
         WHERE email = (SELECT email FROM account) ORDER BY created_at DESC LIMIT %(most)s
    ), one_time_token AS (
        SELECT to_jsonb(held) - 'token_hash' AS row FROM identity.one_time_tokens AS held
         WHERE user_id = %(user_id)s OR sign_up_id IN (SELECT id FROM sign_up)
         ORDER BY created_at DESC LIMIT %(most)s
    ), mail AS (
        SELECT to_jsonb(held) AS row FROM identity.account_mails AS held
         WHERE email = (SELECT email FROM account) ORDER BY created_at DESC LIMIT %(most)s
    ), known_network AS (
        SELECT to_jsonb(held) AS row FROM identity.known_networks AS held
         WHERE user_id = %(user_id)s ORDER BY last_used_at DESC LIMIT %(most)s
    )
    SELECT jsonb_build_object(
        'users', (SELECT coalesce(jsonb_agg(to_jsonb(account) - 'password_hash'), '[]') FROM account),
        'sessions', (SELECT coalesce(jsonb_agg(row), '[]') FROM session),
        'refresh_tokens', (SELECT coalesce(jsonb_agg(row), '[]') FROM refresh_token),
        'token_blacklist', (SELECT coalesce(jsonb_agg(row), '[]') FROM blacklisted),
        'sign_ups', (SELECT coalesce(jsonb_agg(row), '[]') FROM sign_up),
        'one_time_tokens', (SELECT coalesce(jsonb_agg(row), '[]') FROM one_time_token),
        'account_mails', (SELECT coalesce(jsonb_agg(row), '[]') FROM mail),
        'known_networks', (SELECT coalesce(jsonb_agg(row), '[]') FROM known_network)
    ) AS held
"""


class PostgresPeople:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Profiles

    def find_account(self, user_id: int, *, for_update: bool = False) -> OwnAccount | None:
        lock = " FOR NO KEY UPDATE" if for_update else ""
        row = self._connection.execute(_ACCOUNT + "WHERE id = %s AND status <> 'erased'" + lock, (user_id,)).fetchone()
        return _account(row) if row else None

    def find_public(self, user_id: int) -> KnownUser | None:
        row = self._connection.execute(
            "SELECT id, name, avatar_url, profile, status, version FROM identity.users WHERE id = %s", (user_id,)
        ).fetchone()
        if row is None:
            return None
        if row["status"] == "erased":
            return KnownUser(row["version"], None)
        profile = public_part(Profile.model_construct(**row["profile"]))
        user = PublicUser(id=row["id"], name=row["name"], avatar_url=row["avatar_url"], profile=profile)
        return KnownUser(row["version"], user)

    def change_account(self, user_id: int, name: str, avatar_url: str | None, profile: Profile) -> OwnAccount:
        row = self._connection.execute(
            """
            UPDATE identity.users
               SET name = %s, avatar_url = %s, profile = %s, version = version + 1, updated_at = now()
             WHERE id = %s
            RETURNING *
            """,
            (name, avatar_url, Jsonb(profile.model_dump(exclude_defaults=True)), user_id),
        ).fetchone()
        assert row is not None
        return _account(row)

    # What other services ask for

    def summaries_of(self, user_ids: Sequence[int]) -> list[UserSummary]:
        rows = self._connection.execute(
            "SELECT id, name, version FROM identity.users WHERE id = ANY(%s) AND status <> 'erased' ORDER BY id",
            (list(user_ids),),
        ).fetchall()
        return [UserSummary(**row) for row in rows]

    def recipients_among(self, user_ids: Sequence[int]) -> list[Recipient]:
        rows = self._connection.execute(
            """
            SELECT id, email, name, profile ->> 'timezone' AS timezone,
                   coalesce((profile ->> 'event_reminders')::boolean, true) AS reminders
              FROM identity.users
             WHERE id = ANY(%s) AND status = 'active' AND verified_at IS NOT NULL
             ORDER BY id
            """,
            (list(user_ids),),
        ).fetchall()
        return [Recipient(**row) for row in rows]

    # Administration

    def search(self, query: UserQuery, after_id: int) -> list[AdministeredUser]:
        rows = self._connection.execute(
            _ACCOUNT
            + """
             WHERE id > %(after_id)s
               AND (%(text)s = '' OR name ILIKE %(part)s OR email::text ILIKE %(part)s)
               AND (%(role)s::text IS NULL OR role = %(role)s)
               AND CASE WHEN %(status)s::text IS NULL THEN status <> 'erased' ELSE status = %(status)s END
             ORDER BY id
             LIMIT %(limit)s
            """,
            {
                "after_id": after_id,
                "text": query.q,
                "part": f"%{_literally(query.q)}%",
                "role": query.role,
                "status": query.status,
                "limit": query.limit + 1,
            },
        ).fetchall()
        return [_administered(row) for row in rows]

    def find_user(self, user_id: int, *, for_update: bool = False) -> AdministeredUser | None:
        lock = " FOR NO KEY UPDATE" if for_update else ""
        row = self._connection.execute(_ACCOUNT + "WHERE id = %s" + lock, (user_id,)).fetchone()
        return _administered(row) if row else None

    def find_user_by_email(self, email: str) -> AdministeredUser | None:
        row = self._connection.execute(_ACCOUNT + "WHERE email = %s", (email,)).fetchone()
        return _administered(row) if row else None

    def lock_administrators(self) -> set[int]:
        rows = self._connection.execute(
            """
            SELECT id
              FROM identity.users
             WHERE role = 'admin' AND status = 'active' AND 'users:manage' = ANY (permissions)
             ORDER BY id
               FOR NO KEY UPDATE
            """
        ).fetchall()
        return {row["id"] for row in rows}

    def set_access(self, user: AdministeredUser) -> tuple[AdministeredUser, int]:
        row = self._connection.execute(
            """
            UPDATE identity.users
               SET role = %s, permissions = %s, status = %s, suspension_reason = %s,
                   generation = generation + 1, generation_changed_at = now(), version = version + 1, updated_at = now()
             WHERE id = %s
            RETURNING *
            """,
            (user.role, user.permissions, user.status, user.suspension_reason, user.id),
        ).fetchone()
        assert row is not None
        return _administered(row), row["generation"]

    def end_sessions(self, user_id: int, reason: str) -> None:
        self._connection.execute(
            "UPDATE identity.sessions SET ended_at = now(), end_reason = %s WHERE user_id = %s AND ended_at IS NULL",
            (reason, user_id),
        )

    # Personal data

    def held_about(self, user_id: int) -> dict[str, list[dict[str, Any]]]:
        row = self._connection.execute(_HELD, {"user_id": user_id, "most": HELD_MAXIMUM}).fetchone()
        assert row is not None
        held: dict[str, list[dict[str, Any]]] = row["held"]
        return held

    def find_owner(self, user_id: int, network: str) -> Owner | None:
        row = self._connection.execute(
            """
            SELECT email, password_hash,
                   EXISTS (SELECT FROM identity.known_networks WHERE user_id = account.id AND network = %s) AS known
              FROM identity.users AS account
             WHERE id = %s AND status <> 'erased'
            """,
            (network, user_id),
        ).fetchone()
        return Owner(row["email"], row["password_hash"], row["known"]) if row else None

    def erase(self, user_id: int, password_hash: str) -> ErasedAccount | None:
        row = self._connection.execute(
            """
            WITH account AS (
                SELECT id, email
                  FROM identity.users
                 WHERE id = %(user_id)s AND password_hash = %(password_hash)s AND status <> 'erased'
                   FOR UPDATE
            ), sign_ups AS (
                DELETE FROM identity.sign_ups WHERE email = (SELECT email FROM account)
            ), mails AS (
                DELETE FROM identity.account_mails WHERE email = (SELECT email FROM account)
            )
            UPDATE identity.users AS erased
               SET email = 'erased-' || erased.id || '@users.invalid', name = %(name)s, password_hash = '',
                   profile = '{}', avatar_url = NULL, role = 'user', permissions = '{}', status = 'erased',
                   suspension_reason = NULL, verified_at = NULL,
                   generation = generation + 1, generation_changed_at = now(),
                   version = version + 1, updated_at = now()
              FROM account
             WHERE erased.id = account.id
            RETURNING erased.id, version, generation, account.email AS former_email
            """,
            {"user_id": user_id, "password_hash": password_hash, "name": DELETED_NAME},
        ).fetchone()
        if row is None:
            return None
        # What belongs to an account goes with it.
        self._connection.execute("DELETE FROM identity.one_time_tokens WHERE user_id = %s", (user_id,))
        self._connection.execute("DELETE FROM identity.refresh_tokens WHERE user_id = %s", (user_id,))
        self._connection.execute("DELETE FROM identity.sessions WHERE user_id = %s", (user_id,))
        self._connection.execute("DELETE FROM identity.token_blacklist WHERE user_id = %s", (user_id,))
        self._connection.execute("DELETE FROM identity.known_networks WHERE user_id = %s", (user_id,))
        self._connection.execute(
            """
            DELETE FROM identity.idempotency_keys
             WHERE outcome #>> '{result,id}' = %(id)s OR outcome #>> '{result,user,id}' = %(id)s
                OR outcome #>> '{result,email}' = %(email)s
            """,
            {"id": str(user_id), "email": row["former_email"]},
        )
        return ErasedAccount(id=row["id"], version=row["version"], generation=row["generation"])


def _account(row: Row) -> OwnAccount:
    profile = Profile.model_construct(**row["profile"])
    return OwnAccount.model_validate({**row, "profile": profile, "email_verified": row["verified_at"] is not None})


def _administered(row: Row) -> AdministeredUser:
    return AdministeredUser.model_validate({**row, "email_verified": row["verified_at"] is not None})


def _literally(text: str) -> str:
    """For a LIKE pattern: text in which nothing stands for anything else."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
