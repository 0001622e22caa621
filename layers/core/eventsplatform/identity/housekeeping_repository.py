"""The SQL of housekeeping. Rows that another transaction holds are left to the next run."""

from __future__ import annotations

from datetime import datetime

from eventsplatform.adapters.postgres import Connection


class PostgresHousekeeping:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def delete_one_time_tokens(self, before: datetime, at_most: int) -> int:
        return self._connection.execute(
            """
            DELETE FROM identity.one_time_tokens WHERE token_hash IN
                   (SELECT token_hash FROM identity.one_time_tokens
                     WHERE expires_at < %(before)s ORDER BY expires_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
            """,
            {"before": before, "at_most": at_most},
        ).rowcount

    def delete_sign_ups(self, before: datetime, at_most: int) -> int:
        return self._connection.execute(
            """
            DELETE FROM identity.sign_ups WHERE id IN
                   (SELECT id FROM identity.sign_ups
                     WHERE created_at < %(before)s ORDER BY created_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
            """,
            {"before": before, "at_most": at_most},
        ).rowcount

    def delete_account_mails(self, before: datetime, at_most: int) -> int:
        return self._connection.execute(
            """
            DELETE FROM identity.account_mails WHERE request_id IN
                   (SELECT request_id FROM identity.account_mails
                     WHERE created_at < %(before)s ORDER BY created_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
            """,
            {"before": before, "at_most": at_most},
        ).rowcount

    def delete_token_blacklist(self, before: datetime, at_most: int) -> int:
        return self._connection.execute(
            """
            DELETE FROM identity.token_blacklist WHERE jti IN
                   (SELECT jti FROM identity.token_blacklist
                     WHERE expires_at < %(before)s ORDER BY expires_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
            """,
            {"before": before, "at_most": at_most},
        ).rowcount

    def delete_refresh_tokens(self, before: datetime, at_most: int) -> int:
        return self._connection.execute(
            """
            DELETE FROM identity.refresh_tokens WHERE id IN
                   (SELECT id FROM identity.refresh_tokens
                     WHERE expires_at < %(before)s ORDER BY expires_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
            """,
            {"before": before, "at_most": at_most},
        ).rowcount

    def delete_sessions(self, before: datetime, at_most: int) -> int:
        """Those that ended early, too: both kinds have an index of their own."""
        return self._connection.execute(
            """
            DELETE FROM identity.sessions WHERE id IN
                   (SELECT id FROM identity.sessions
                     WHERE ended_at < %(before)s OR expires_at < %(before)s LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
            """,
            {"before": before, "at_most": at_most},
        ).rowcount

    def delete_known_networks(self, before: datetime, at_most: int) -> int:
        return self._connection.execute(
            """
            DELETE FROM identity.known_networks WHERE (user_id, network) IN
                   (SELECT user_id, network FROM identity.known_networks
                     WHERE last_used_at < %(before)s ORDER BY last_used_at LIMIT %(at_most)s FOR UPDATE SKIP LOCKED)
            """,
            {"before": before, "at_most": at_most},
        ).rowcount
