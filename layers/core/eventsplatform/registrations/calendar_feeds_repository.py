"""The SQL of calendars that people subscribe to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from eventsplatform.adapters.postgres import Connection
from eventsplatform.registrations.calendar_feeds import Attendance
from eventsplatform.registrations.model import EventFacts


class PostgresCalendarFeeds:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put_feed(self, user_id: int, token_hash: bytes) -> datetime | None:
        # As every registration does: an erasure waits for those under way, and those to come find what it has added.
        self._connection.execute("LOCK TABLE registrations.holders IN ROW EXCLUSIVE MODE")
        row = self._connection.execute(
            """
            INSERT INTO registrations.calendar_feeds (user_id, token_hash)
            SELECT %(user_id)s, %(token_hash)s
             WHERE NOT EXISTS (SELECT FROM registrations.erased_users WHERE user_id = %(user_id)s)
            ON CONFLICT (user_id) DO UPDATE SET token_hash = excluded.token_hash, created_at = excluded.created_at
            RETURNING created_at
            """,
            {"user_id": user_id, "token_hash": token_hash},
        ).fetchone()
        return row["created_at"] if row else None

    def find_feed(self, user_id: int) -> datetime | None:
        row = self._connection.execute(
            "SELECT created_at FROM registrations.calendar_feeds WHERE user_id = %s", (user_id,)
        ).fetchone()
        return row["created_at"] if row else None

    def delete_feed(self, user_id: int) -> bool:
        row = self._connection.execute(
            "DELETE FROM registrations.calendar_feeds WHERE user_id = %s RETURNING user_id", (user_id,)
        ).fetchone()
        return row is not None

    def read_feed(
        self, token_hash: bytes, now: datetime, since: datetime, until: datetime, limit: int
    ) -> list[Attendance] | None:
        # Who was in line and left it never had the event in the calendar: nothing of it is to be taken back there.
        rows = self._connection.execute(
            """
            WITH feed AS (
                SELECT user_id
                  FROM registrations.calendar_feeds AS feed
                 WHERE token_hash = %(token_hash)s
                   AND NOT EXISTS (SELECT FROM registrations.suspended_users WHERE user_id = feed.user_id AND suspended)
            ), latest AS (
                SELECT DISTINCT ON (event_id) event_id, status, offer_expires_at,
                       ticket IS NULL OR version > 2 AS had_a_place,
                       sum(version) OVER (PARTITION BY event_id)::int AS changes
                  FROM registrations.event_registrations
                 WHERE user_id = (SELECT user_id FROM feed)
                 ORDER BY event_id, registered_at DESC, id DESC
            ), shown AS (
                SELECT latest.*, event.facts, event.starts_at
                  FROM latest
                  JOIN registrations.events AS event USING (event_id)
                 WHERE event.facts IS NOT NULL AND event.status <> 'draft'
                   AND event.starts_at < %(until)s AND event.ends_at > %(since)s
                   AND (latest.status IN ('active', 'checked_in', 'offered') AND event.status <> 'cancelled'
                        OR latest.status <> 'waitlisted' AND latest.had_a_place AND event.ends_at > %(now)s)
                 ORDER BY event.starts_at DESC, event_id DESC
                 LIMIT %(limit)s
            )
            SELECT shown.*
              FROM feed
              LEFT JOIN shown ON true
             ORDER BY shown.starts_at DESC, shown.event_id DESC
            """,
            {"token_hash": token_hash, "now": now, "since": since, "until": until, "limit": limit},
        ).fetchall()
        if not rows:
            return None
        return [
            Attendance(
                event=EventFacts.model_validate(row["facts"]),
                status=row["status"],
                offer_expires_at=row["offer_expires_at"],
                changes=row["changes"],
            )
            for row in rows
            if row["event_id"] is not None
        ]

    def held_feeds(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        rows = self._connection.execute(
            """
            SELECT to_jsonb(held) - 'token_hash' || jsonb_build_object('id', user_id) AS row
              FROM registrations.calendar_feeds AS held
             WHERE user_id = %s AND user_id > %s
             LIMIT %s
            """,
            (user_id, after_id, limit),
        ).fetchall()
        return [row["row"] for row in rows]
