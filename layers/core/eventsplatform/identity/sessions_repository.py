"""The SQL of sessions."""

from __future__ import annotations

from eventsplatform.adapters.postgres import Connection
from eventsplatform.gate.revocations import ACCESS_TOKEN_SECONDS, LiveRevocations
from eventsplatform.identity.sessions import SessionState


class PostgresSessions:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def check_session(self, user_id: int, session_id: str, token_id: str, generation: int) -> SessionState:
        row = self._connection.execute(
            """
            SELECT account.verified_at IS NOT NULL AS verified,
                   account.status = 'active' AND account.generation = %(generation)s
                   AND session.ended_at IS NULL
                   AND NOT EXISTS (SELECT FROM identity.token_blacklist WHERE jti = %(token_id)s) AS live
              FROM identity.users AS account
              JOIN identity.sessions AS session ON session.user_id = account.id
             WHERE account.id = %(user_id)s AND session.id::text = %(session_id)s
            """,
            {"user_id": user_id, "session_id": session_id, "token_id": token_id, "generation": generation},
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
              FROM identity.token_blacklist WHERE expires_at > now() - interval '30 seconds'
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
