"""The SQL of housekeeping."""

from __future__ import annotations

from datetime import datetime

from eventsplatform.adapters.postgres import Connection

# Of each table: its key, and the column that says when a row has ended. Rows that another transaction holds are
# left to the next run.
_DELETE = {
    "one_time_tokens": """
        DELETE FROM identity.one_time_tokens WHERE token_hash IN
               (SELECT token_hash FROM identity.one_time_tokens
                 WHERE expires_at < %(before)s ORDER BY expires_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
    """,
    "sign_ups": """
        DELETE FROM identity.sign_ups WHERE id IN
               (SELECT id FROM identity.sign_ups
                 WHERE created_at < %(before)s ORDER BY created_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
    """,
    "account_mails": """
        DELETE FROM identity.account_mails WHERE request_id IN
               (SELECT request_id FROM identity.account_mails
                 WHERE created_at < %(before)s ORDER BY created_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
    """,
    "token_blacklist": """
        DELETE FROM identity.token_blacklist WHERE jti IN
               (SELECT jti FROM identity.token_blacklist
                 WHERE expires_at < %(before)s ORDER BY expires_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
    """,
    "refresh_tokens": """
        DELETE FROM identity.refresh_tokens WHERE id IN
               (SELECT id FROM identity.refresh_tokens
                 WHERE expires_at < %(before)s ORDER BY expires_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
    """,
    # Those that ended early, too: both kinds have an index of their own.
    "sessions": """
        DELETE FROM identity.sessions WHERE id IN
               (SELECT id FROM identity.sessions
                 WHERE ended_at < %(before)s OR expires_at < %(before)s LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
    """,
    "known_networks": """
        DELETE FROM identity.known_networks WHERE (user_id, network) IN
               (SELECT user_id, network FROM identity.known_networks
                 WHERE last_used_at < %(before)s ORDER BY last_used_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
    """,
    "idempotency_keys": """
        DELETE FROM identity.idempotency_keys WHERE id IN
               (SELECT id FROM identity.idempotency_keys
                 WHERE created_at < %(before)s ORDER BY created_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
    """,
}


class PostgresHousekeeping:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def delete_ended(self, table: str, before: datetime, at_most: int) -> int:
        return self._connection.execute(_DELETE[table], {"before": before, "at_most": at_most}).rowcount
