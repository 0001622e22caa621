"""The SQL of the mails to attendees, and of what attendees have been told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from eventsplatform.adapters.postgres import Connection, Row
from eventsplatform.registrations.mail_model import Announcement, ClaimedMail, News, Outcome, Schedule
from eventsplatform.registrations.model import EventFacts, Registration


class PostgresMails:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Queueing --------------------------------------------------------------------------------------

    def queue(self, news: Sequence[News], oldest: datetime) -> None:
        self._connection.execute(
            """
            INSERT INTO registrations.attendee_mails
                   (cause, kind, user_id, event_id, registration_id, registered_at, happened_at, due_at)
            SELECT cause, kind, registration.user_id, registration.event_id, registration.id, registered_at,
                   happened_at, happened_at
              FROM unnest(%(causes)s::text[], %(kinds)s::text[], %(ids)s::bigint[], %(moments)s::timestamptz[],
                          %(happened_at)s::timestamptz[])
                   AS news (cause, kind, id, registered_at, happened_at)
              JOIN registrations.event_registrations AS registration USING (id, registered_at)
             CROSS JOIN registrations.mailing
             WHERE happened_at >= greatest(mailing.since, %(oldest)s)
            ON CONFLICT DO NOTHING
            """,
            {
                "causes": [each.cause for each in news],
                "kinds": [each.kind for each in news],
                "ids": [each.registration_id for each in news],
                "moments": [each.registered_at for each in news],
                "happened_at": [each.happened_at for each in news],
                "oldest": oldest,
            },
        )

    def queue_for_all(self, announcement: Announcement, oldest: datetime, after_user: int, limit: int) -> int | None:
        row = self._connection.execute(
            """
            WITH page AS (
                SELECT user_id, registration_id AS id, registered_at
                  FROM registrations.holders
                 WHERE event_id = %(event_id)s AND user_id > %(after_user)s
                 ORDER BY user_id
                 LIMIT %(limit)s
            ), queued AS (
                INSERT INTO registrations.attendee_mails
                       (cause, kind, user_id, event_id, registration_id, registered_at, schedule, happened_at, due_at)
                SELECT %(cause)s, %(kind)s, page.user_id, event_id, id, registered_at, %(schedule)s,
                       %(happened_at)s, %(happened_at)s
                  FROM page
                  JOIN registrations.event_registrations AS registration USING (id, registered_at)
                 CROSS JOIN registrations.mailing
                 WHERE status = ANY(%(statuses)s)
                   AND registered_at <= coalesce(%(registered_before)s::timestamptz, 'infinity')
                   AND %(happened_at)s >= greatest(mailing.since, %(oldest)s)
                ON CONFLICT DO NOTHING
            )
            SELECT max(user_id) AS last FROM page
            """,
            {
                "cause": announcement.cause,
                "kind": announcement.kind,
                "event_id": announcement.event_id,
                "statuses": list(announcement.statuses),
                "schedule": _json(announcement.schedule) if announcement.schedule else None,
                "registered_before": announcement.registered_before,
                "happened_at": announcement.happened_at,
                "oldest": oldest,
                "after_user": after_user,
                "limit": limit,
            },
        ).fetchone()
        assert row is not None
        last: int | None = row["last"]
        return last

    # What attendees know of events -----------------------------------------------------------------

    def announced(self, event_ids: Sequence[int]) -> dict[int, Schedule]:
        rows = self._connection.execute(
            "SELECT event_id, schedule FROM registrations.announcements WHERE event_id = ANY(%s)", (list(event_ids),)
        ).fetchall()
        return {row["event_id"]: Schedule.model_validate(row["schedule"]) for row in rows}

    def announce_new(self, events: Sequence[EventFacts]) -> None:
        self._connection.execute(
            """
            INSERT INTO registrations.announcements (event_id, schedule)
            SELECT * FROM unnest(%s::bigint[], %s::jsonb[])
            ON CONFLICT (event_id) DO NOTHING
            """,
            ([event.id for event in events], [_json(Schedule.of(event)) for event in events]),
        )

    def note_change(self, event_id: int, now: datetime, announce_at: datetime) -> None:
        self._connection.execute(
            """
            UPDATE registrations.announcements
               SET changed_at = %s, announce_at = coalesce(announce_at, %s)
             WHERE event_id = %s
            """,
            (now, announce_at, event_id),
        )

    def due_changes(self, now: datetime, limit: int) -> list[tuple[EventFacts, Schedule, datetime]]:
        rows = self._connection.execute(
            """
            SELECT facts, schedule, changed_at
              FROM registrations.announcements
              JOIN registrations.events USING (event_id)
             WHERE announce_at <= %s AND facts IS NOT NULL
             ORDER BY announce_at
             LIMIT %s
            """,
            (now, limit),
        ).fetchall()
        return [
            (EventFacts.of_event(row["facts"]), Schedule.model_validate(row["schedule"]), row["changed_at"])
            for row in rows
        ]

    def change_announced(self, event_id: int, schedule: Schedule, changed_at: datetime) -> None:
        self._connection.execute(
            """
            UPDATE registrations.announcements
               SET schedule = %s, announce_at = CASE WHEN changed_at > %s THEN announce_at END
             WHERE event_id = %s
            """,
            (_json(schedule), changed_at, event_id),
        )

    def due_reminders(self, now: datetime, until: datetime, limit: int) -> list[EventFacts]:
        rows = self._connection.execute(
            """
            SELECT facts
              FROM registrations.events
              JOIN registrations.announcements USING (event_id)
             WHERE status = 'published' AND starts_at > %s AND starts_at <= %s AND facts IS NOT NULL
               AND reminded_for IS DISTINCT FROM starts_at AND announce_at IS NULL
             ORDER BY starts_at
             LIMIT %s
            """,
            (now, until, limit),
        ).fetchall()
        return [EventFacts.of_event(row["facts"]) for row in rows]

    def reminded(self, event_id: int, starts_at: datetime) -> None:
        self._connection.execute(
            "UPDATE registrations.announcements SET reminded_for = %s WHERE event_id = %s", (starts_at, event_id)
        )

    # Sending ---------------------------------------------------------------------------------------

    def claim(self, now: datetime, until: datetime, limit: int) -> list[ClaimedMail]:
        rows = self._connection.execute(
            """
            WITH due AS (
                SELECT id
                  FROM registrations.attendee_mails
                 WHERE due_at <= %(now)s
                 ORDER BY due_at, id
                 LIMIT %(limit)s
                   FOR UPDATE SKIP LOCKED
            ), claimed AS (
                UPDATE registrations.attendee_mails AS mail
                   SET due_at = %(until)s, attempts = attempts + 1
                  FROM due
                 WHERE mail.id = due.id
                RETURNING mail.*
            )
            SELECT claimed.id AS mail_id, kind, attempts, happened_at, schedule, registration.*,
                   EXISTS (SELECT
                             FROM registrations.holders
                            WHERE holders.event_id = claimed.event_id AND holders.user_id = claimed.user_id) AS held,
                   CASE WHEN status = 'waitlisted'
                        THEN registrations.position_in_line(registration.event_id, ticket)
                   END AS position
              FROM claimed
              JOIN registrations.event_registrations AS registration
                ON registration.id = claimed.registration_id AND registration.registered_at = claimed.registered_at
             ORDER BY claimed.id
            """,
            {"now": now, "until": until, "limit": limit},
        ).fetchall()
        return [_claimed(row) for row in rows]

    def close(self, mail: ClaimedMail, outcome: Outcome, now: datetime) -> None:
        self._connection.execute(
            """
            UPDATE registrations.attendee_mails
               SET due_at = NULL, outcome = %s, closed_at = %s
             WHERE id = %s AND attempts = %s
            """,
            (outcome, now, mail.id, mail.attempts),
        )

    def put_back(self, mails: Sequence[tuple[ClaimedMail, datetime]]) -> None:
        self._connection.execute(
            """
            UPDATE registrations.attendee_mails AS mail
               SET due_at = put.due_at
              FROM unnest(%s::bigint[], %s::int[], %s::timestamptz[]) AS put (id, attempts, due_at)
             WHERE mail.id = put.id AND mail.attempts = put.attempts AND mail.due_at IS NOT NULL
            """,
            (
                [mail.id for mail, _ in mails],
                [mail.attempts for mail, _ in mails],
                [due_at for _, due_at in mails],
            ),
        )

    def mail_since(self, moment: datetime) -> None:
        """Nothing is mailed about that happened before; what has been queued is."""
        self._connection.execute("UPDATE registrations.mailing SET since = %s", (moment,))

    # What is over ----------------------------------------------------------------------------------

    def forget_closed(self, before: datetime, limit: int) -> None:
        self._connection.execute(
            """
            DELETE FROM registrations.attendee_mails
             WHERE id IN (SELECT id FROM registrations.attendee_mails WHERE closed_at < %s LIMIT %s)
            """,
            (before, limit),
        )

    def held_mails(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        rows = self._connection.execute(
            """
            SELECT to_jsonb(held) AS row
              FROM registrations.attendee_mails AS held
             WHERE user_id = %s AND id > %s
             ORDER BY id
             LIMIT %s
            """,
            (user_id, after_id, limit),
        ).fetchall()
        return [row["row"] for row in rows]


def _claimed(row: Row) -> ClaimedMail:
    return ClaimedMail(
        id=row["mail_id"],
        kind=row["kind"],
        attempts=row["attempts"],
        happened_at=row["happened_at"],
        registration=Registration.model_validate(row),
        held=row["held"],
        schedule=Schedule.model_validate(row["schedule"]) if row["schedule"] else None,
    )


def _json(schedule: Schedule) -> Jsonb:
    return Jsonb(schedule.model_dump(mode="json"))
