"""The SQL of sessions."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from eventsplatform.adapters.postgres import Connection, Row
from eventsplatform.gate.revocations import ACCESS_TOKEN_SECONDS, LiveRevocations
from eventsplatform.identity.caller import Client
from eventsplatform.identity.model import Account, SessionSummary, User
from eventsplatform.identity.sessions import USER_AGENT_MAXIMUM, NewRefreshToken, PresentedToken, SessionState


class PostgresSessions:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find_account(self, email: str, network: str) -> Account | None:
        row = self._connection.execute(
            """
            SELECT account.*,
                   EXISTS (SELECT FROM identity.known_networks WHERE user_id = account.id AND network = %s) AS known
              FROM identity.users AS account
             WHERE email = %s
            """,
            (network, email),
        ).fetchone()
        return account_of(row, known_network=row["known"]) if row else None

    def put_password_hash(self, user_id: int, password_hash: str, *, in_place_of: str) -> None:
        self._connection.execute(
            """
            WITH account AS (
                UPDATE identity.users SET password_hash = %(new)s WHERE id = %(user_id)s AND password_hash = %(old)s
                RETURNING email
            )
            UPDATE identity.sign_ups
               SET password_hash = %(new)s
              FROM account
             WHERE sign_ups.email = account.email AND sign_ups.password_hash = %(old)s
            """,
            {"new": password_hash, "old": in_place_of, "user_id": user_id},
        )

    def open_session(
        self,
        session_id: UUID,
        account: Account,
        client: Client,
        network: str,
        session_expires_at: datetime,
        token: NewRefreshToken,
    ) -> bool:
        """Shares the lock on the user: a suspension or a new password waits, and then ends this session, too."""
        row = self._connection.execute(
            """
            WITH account AS (
                SELECT id FROM identity.users
                 WHERE id = %(user_id)s AND status = 'active' AND generation = %(generation)s
                   FOR SHARE
            ), session AS (
                INSERT INTO identity.sessions (id, user_id, created_at, last_used_at, expires_at, address, user_agent)
                SELECT %(session_id)s, id, %(now)s, %(now)s, %(session_expires_at)s, %(address)s, %(user_agent)s
                  FROM account
            ), network AS (
                INSERT INTO identity.known_networks (user_id, network, last_used_at)
                SELECT id, %(network)s, %(now)s FROM account
                ON CONFLICT (user_id, network) DO UPDATE SET last_used_at = excluded.last_used_at
            )
            INSERT INTO identity.refresh_tokens (session_id, user_id, token_hash, issued_at, expires_at)
            SELECT %(session_id)s, id, %(token_hash)s, %(now)s, %(expires_at)s FROM account
            RETURNING id
            """,
            {
                "user_id": account.user.id,
                "generation": account.generation,
                "session_id": session_id,
                "session_expires_at": session_expires_at,
                "network": network,
                "now": token.issued_at,
                "token_hash": token.token_hash,
                "expires_at": token.expires_at,
                **_client_values(client),
            },
        ).fetchone()
        return row is not None

    def account_of(self, email: str) -> Account | None:
        row = self._connection.execute("SELECT * FROM identity.users WHERE email = %s FOR SHARE", (email,)).fetchone()
        return account_of(row) if row else None

    def open_partner_session(
        self, session_id: UUID, user_id: int, partner: str, now: datetime, expires_at: datetime
    ) -> None:
        self._connection.execute(
            """
            INSERT INTO identity.sessions (id, user_id, created_at, last_used_at, expires_at, partner)
            VALUES (%s, %s, %s, %s, %s, %s)
            """,
            (session_id, user_id, now, now, expires_at, partner),
        )

    def end_partner_sessions(self, partner: str, session_id: UUID | None) -> Sequence[tuple[UUID, int]]:
        rows = self._connection.execute(
            """
            UPDATE identity.sessions
               SET ended_at = now(), end_reason = 'revoked'
             WHERE partner = %(partner)s AND ended_at IS NULL AND expires_at > now()
               AND (%(session_id)s::uuid IS NULL OR id = %(session_id)s)
            RETURNING id, user_id
            """,
            {"partner": partner, "session_id": session_id},
        ).fetchall()
        return [(row["id"], row["user_id"]) for row in rows]

    def present_token(self, token_hash: bytes) -> PresentedToken | None:
        self._connection.execute(
            """
            SELECT FROM identity.sessions
             WHERE id = (SELECT session_id FROM identity.refresh_tokens WHERE token_hash = %s)
               FOR UPDATE
            """,
            (token_hash,),
        )
        # A statement of its own: it sees what the lock has waited for.
        row = self._connection.execute(
            """
            SELECT token.id AS token_id, token.spent_at, token.expires_at AS token_expires_at,
                   session.id AS session_id, session.ended_at, session.expires_at AS session_expires_at, account.*
              FROM identity.refresh_tokens AS token
              JOIN identity.sessions AS session ON session.id = token.session_id
              JOIN identity.users AS account ON account.id = session.user_id
             WHERE token.token_hash = %s
            """,
            (token_hash,),
        ).fetchone()
        if row is None:
            return None
        return PresentedToken(
            id=row["token_id"],
            spent=row["spent_at"] is not None,
            expires_at=row["token_expires_at"],
            session_id=row["session_id"],
            session_ended=row["ended_at"] is not None,
            session_expires_at=row["session_expires_at"],
            account=account_of(row),
        )

    def rotate_token(self, session_id: UUID, client: Client, token: NewRefreshToken) -> None:
        self._connection.execute(
            "UPDATE identity.refresh_tokens SET spent_at = %s WHERE session_id = %s AND spent_at IS NULL",
            (token.issued_at, session_id),
        )
        self._connection.execute(
            """
            INSERT INTO identity.refresh_tokens (session_id, user_id, token_hash, issued_at, expires_at)
            SELECT id, user_id, %s, %s, %s FROM identity.sessions WHERE id = %s
            """,
            (token.token_hash, token.issued_at, token.expires_at, session_id),
        )
        self._connection.execute(
            """
            UPDATE identity.sessions
               SET last_used_at = %(now)s, address = %(address)s, user_agent = %(user_agent)s
             WHERE id = %(session_id)s
            """,
            {"now": token.issued_at, "session_id": session_id, **_client_values(client)},
        )

    def end_session(self, session_id: UUID, user_id: int, reason: str) -> bool:
        return (
            self._connection.execute(
                """
                UPDATE identity.sessions
                   SET ended_at = now(), end_reason = %s
                 WHERE id = %s AND user_id = %s AND ended_at IS NULL
                RETURNING id
                """,
                (reason, session_id, user_id),
            ).fetchone()
            is not None
        )

    def end_sessions(self, user_id: int, reason: str, *, but: UUID | None = None) -> None:
        """To be called with the user's row locked, so that none is begun at the same time."""
        self._connection.execute(
            """
            UPDATE identity.sessions
               SET ended_at = now(), end_reason = %s
             WHERE user_id = %s AND id IS DISTINCT FROM %s AND ended_at IS NULL
            """,
            (reason, user_id, but),
        )

    def blacklist_token(self, token_id: str, user_id: int, reason: str, expires_at: datetime) -> None:
        self._connection.execute(
            """
            INSERT INTO identity.token_blacklist (jti, user_id, reason, expires_at)
            VALUES (%s, %s, %s, %s)
            ON CONFLICT (jti) DO NOTHING
            """,
            (token_id, user_id, reason, expires_at),
        )

    def page_of_sessions(
        self, user_id: int, now: datetime, after: tuple[datetime, UUID] | None, limit: int
    ) -> Sequence[SessionSummary]:
        created_at, session_id = after or (None, None)
        rows = self._connection.execute(
            """
            SELECT id, created_at, last_used_at, expires_at, host(address) AS address, user_agent, partner,
                   false AS current
              FROM identity.sessions
             WHERE user_id = %(user_id)s AND ended_at IS NULL AND expires_at > %(now)s
               AND (%(created_at)s::timestamptz IS NULL
                    OR (created_at, id) < (%(created_at)s, %(session_id)s::uuid))
             ORDER BY created_at DESC, id DESC
             LIMIT %(limit)s
            """,
            {"user_id": user_id, "now": now, "created_at": created_at, "session_id": session_id, "limit": limit},
        ).fetchall()
        return [SessionSummary(**row) for row in rows]

    def check_session(self, user_id: int, session_id: str, token_id: str, generation: int) -> SessionState:
        row = self._connection.execute(
            """
            SELECT account.verified_at IS NOT NULL AS verified,
                   account.status = 'active' AND account.generation <= %(generation)s
                   AND session.ended_at IS NULL AND session.expires_at > now()
                   AND NOT EXISTS (SELECT FROM identity.token_blacklist WHERE jti = %(token_id)s) AS live
              FROM identity.users AS account
              JOIN identity.sessions AS session ON session.user_id = account.id
             WHERE account.id = %(user_id)s AND session.id = %(session_id)s
            """,
            {"user_id": user_id, "session_id": _uuid(session_id), "token_id": token_id, "generation": generation},
        ).fetchone()
        return SessionState(**row) if row else SessionState(live=False, verified=False)

    def live_revocations(self) -> LiveRevocations:
        """All that ended while access tokens that it concerns may still be valid."""
        rows = self._connection.execute(
            """
            SELECT 'session' AS kind, id::text AS name, 0 AS generation
              FROM identity.sessions WHERE ended_at > now() - make_interval(secs => %(seconds)s)
            UNION ALL
            SELECT 'token', jti, 0
              FROM identity.token_blacklist WHERE expires_at > now()
            UNION ALL
            SELECT 'user', id::text, generation
              FROM identity.users WHERE generation_changed_at > now() - make_interval(secs => %(seconds)s)
            """,
            {"seconds": ACCESS_TOKEN_SECONDS},
        ).fetchall()
        return LiveRevocations(
            session_ids=[row["name"] for row in rows if row["kind"] == "session"],
            token_ids=[row["name"] for row in rows if row["kind"] == "token"],
            generations={int(row["name"]): row["generation"] for row in rows if row["kind"] == "user"},
        )


def user_of(row: Row) -> User:
    return User(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        role=row["role"],
        permissions=row["permissions"],
        status=row["status"],
        email_verified=row["verified_at"] is not None,
        created_at=row["created_at"],
    )


def account_of(row: Row, *, known_network: bool = False) -> Account:
    return Account(
        user=user_of(row),
        password_hash=row["password_hash"],
        generation=row["generation"],
        suspension_reason=row["suspension_reason"],
        known_network=known_network,
    )


def _client_values(client: Client) -> dict[str, Any]:
    """What is kept of a client; its own words about itself only as far as Postgres stores them."""
    user_agent = "".join(character for character in client.user_agent if character.isprintable())
    try:
        address: str | None = str(ipaddress.ip_address(client.address))
    except ValueError:
        address = None
    return {"address": address, "user_agent": user_agent[:USER_AGENT_MAXIMUM]}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
