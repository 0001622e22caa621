"""The SQL of what the event store and the audit log know of people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from eventsplatform.adapters.postgres import Database
from eventsplatform.personal_data import DELETED_NAME, DELETED_TITLE

# A message is delivered for as long as its topic keeps it, which is seven days (stacks/messaging.yaml).
LATE_ROWS_DAYS = 8

_REDACT = """
    WITH own_events AS (
        SELECT aggregate_id AS id,
               CASE WHEN EXISTS (
                   SELECT FROM messaging.outbox AS published
                    WHERE published.aggregate_type = 'event' AND published.aggregate_id = created.aggregate_id
                      AND published.type = 'events.published'
               ) THEN '{}' ELSE %(nothing)s END AS written_over
          FROM messaging.outbox AS created
         WHERE actor_id = %(user_id)s AND aggregate_type = 'event' AND type = 'events.created'
    ), own_account AS (
        UPDATE messaging.outbox
           SET payload = payload || %(name)s
         WHERE aggregate_type = 'user' AND aggregate_id = %(user_id)s
           AND payload ? 'name' AND NOT payload @> %(name)s
        RETURNING id
    ), events AS (
        UPDATE messaging.outbox AS change
           SET payload = jsonb_set(payload, '{organizer}', payload -> 'organizer' || %(name)s) || written_over
          FROM own_events
         WHERE aggregate_type = 'event' AND aggregate_id = own_events.id AND payload @> %(organizer)s
           AND NOT payload @> (jsonb_build_object('organizer', %(name)s) || written_over)
        RETURNING change.id
    )
    SELECT (SELECT count(*) FROM own_account) + (SELECT count(*) FROM events) AS redacted
"""


class PostgresRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add_erasure(self, user_id: int) -> None:
        with self._database.autocommit() as connection:
            connection.execute(
                "INSERT INTO messaging.erasures (user_id) VALUES (%s) ON CONFLICT (user_id) DO NOTHING", (user_id,)
            )

    def late_erasures(self) -> Sequence[int]:
        rows = self._database.fetch_all("SELECT user_id FROM messaging.erasures ORDER BY user_id")
        return [row["user_id"] for row in rows]

    def forget_old_erasures(self) -> None:
        with self._database.autocommit() as connection:
            connection.execute(
                "DELETE FROM messaging.erasures WHERE erased_at < now() - make_interval(days => %s)", (LATE_ROWS_DAYS,)
            )

    def redact(self, user_id: int) -> int:
        row = self._database.fetch_one(
            _REDACT,
            {
                "user_id": user_id,
                "name": Jsonb({"name": DELETED_NAME}),
                "organizer": Jsonb({"organizer": {"id": user_id}}),
                "nothing": Jsonb(
                    {
                        "title": DELETED_TITLE,
                        "description": "",
                        "location": {"name": DELETED_TITLE, "lat": None, "lon": None},
                        "tags": [],
                    }
                ),
            },
        )
        assert row is not None
        return int(row["redacted"])

    def held_changes(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        """What the user did, and what was done to the account; who else did it is not the user's to know."""
        rows = self._database.fetch_all(
            """
            SELECT to_jsonb(held) || jsonb_build_object('actor_id', nullif(actor_id, nullif(actor_id, %(user_id)s)))
                   AS row
              FROM messaging.outbox AS held
             WHERE (actor_id = %(user_id)s OR (aggregate_type = 'user' AND aggregate_id = %(user_id)s))
               AND id > %(after_id)s
             ORDER BY id
             LIMIT %(limit)s
            """,
            {"user_id": user_id, "after_id": after_id, "limit": limit},
        )
        return [row["row"] for row in rows]

    def held_audit(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        """The same for privileged acts. Of what the user did to others, the details are theirs."""
        rows = self._database.fetch_all(
            """
            SELECT CASE WHEN subject_type = 'user' AND subject_id = %(user_id)s
                        THEN to_jsonb(held)
                             || jsonb_build_object('actor_id', nullif(actor_id, nullif(actor_id, %(user_id)s)))
                        ELSE to_jsonb(held) - 'details'
                   END AS row
              FROM messaging.audit_log AS held
             WHERE (actor_id = %(user_id)s OR (subject_type = 'user' AND subject_id = %(user_id)s))
               AND id > %(after_id)s
             ORDER BY id
             LIMIT %(limit)s
            """,
            {"user_id": user_id, "after_id": after_id, "limit": limit},
        )
        return [row["row"] for row in rows]
