"""The SQL of the registrations schema."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg.errors import UniqueViolation

from eventsplatform.adapters.postgres import Connection
from eventsplatform.registrations.model import CapacityAnswer, EventPlaces, Registration
from eventsplatform.registrations.service import AlreadyRegisteredError, ErasedAttendeeError

_PLACES = "SELECT * FROM registrations.events WHERE event_id = %s"

# Whoever registers holds it together with others, whoever erases alone: neither misses what the other has done.
_HOLD_USER_TOGETHER = "SELECT pg_advisory_xact_lock_shared(hashtextextended('attendee', %s))"
_HOLD_USER_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('attendee', %s))"


class PostgresRegistrations:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find_places(self, event_id: int, *, for_update: bool = False) -> EventPlaces | None:
        row = self._connection.execute(_PLACES + (" FOR UPDATE" if for_update else ""), (event_id,)).fetchone()
        return EventPlaces(**row) if row else None

    def put_places(self, places: Sequence[EventPlaces]) -> None:
        self._connection.cursor().executemany(
            """
            INSERT INTO registrations.events AS known
                   (event_id, organizer_id, title, status, starts_at, capacity, version)
            VALUES (%(event_id)s, %(organizer_id)s, %(title)s, %(status)s, %(starts_at)s, %(capacity)s, %(version)s)
            ON CONFLICT (event_id) DO UPDATE
               SET organizer_id = excluded.organizer_id, title = excluded.title, status = excluded.status,
                   starts_at = excluded.starts_at, capacity = excluded.capacity, version = excluded.version
             WHERE known.version < excluded.version
            """,
            [each.model_dump() for each in places],
        )

    def lower_capacity(self, event_id: int, version: int, capacity: int) -> CapacityAnswer:
        # The row is locked by whoever takes a place, so nobody takes one between the comparison and the commit.
        lowered = self._connection.execute(
            """
            UPDATE registrations.events SET capacity = %s
             WHERE event_id = %s AND version = %s AND registered <= %s
            RETURNING registered
            """,
            (capacity, event_id, version, capacity),
        ).fetchone()
        if lowered is not None:
            return CapacityAnswer(accepted=True, taken=lowered["registered"])
        places = self.find_places(event_id)
        assert places is not None
        return CapacityAnswer(accepted=False, taken=places.registered)

    def add(self, places: EventPlaces, user_id: int) -> tuple[Registration, EventPlaces]:
        free = places.available > 0 and places.waitlisted == 0
        try:
            # Both results are fetched only then, so that the two statements travel together.
            self._connection.execute(_HOLD_USER_TOGETHER, (user_id,))
            registered = self._connection.execute(
                """
                INSERT INTO registrations.event_registrations (event_id, user_id, status)
                SELECT %(event_id)s, %(user_id)s, %(status)s::text
                 WHERE NOT EXISTS (SELECT FROM registrations.erased_users WHERE user_id = %(user_id)s)
                RETURNING id, event_id, user_id, status, registered_at, offer_expires_at
                """,
                {"event_id": places.event_id, "user_id": user_id, "status": "active" if free else "waitlisted"},
            )
            counted = self._connection.execute(
                """
                UPDATE registrations.events
                   SET registered = registered + %s, waitlisted = waitlisted + %s, counts_version = counts_version + 1
                 WHERE event_id = %s
                RETURNING *
                """,
                (int(free), int(not free), places.event_id),
            )
            row, counts = registered.fetchone(), counted.fetchone()
        except UniqueViolation as error:
            raise AlreadyRegisteredError from error
        if row is None:
            raise ErasedAttendeeError
        assert counts is not None
        after = EventPlaces(**counts)
        return Registration(**row, position=None if free else after.waitlisted), after

    def erase_user(self, user_id: int) -> None:
        self._connection.execute(_HOLD_USER_ALONE, (user_id,))
        self._connection.execute(
            "INSERT INTO registrations.erased_users (user_id) VALUES (%s) ON CONFLICT (user_id) DO NOTHING", (user_id,)
        )

    def events_ahead(self, user_id: int, now: datetime) -> list[int]:
        rows = self._connection.execute(
            """
            SELECT event_id
              FROM registrations.event_registrations
              JOIN registrations.events USING (event_id)
             WHERE user_id = %s AND event_registrations.status IN ('active', 'waitlisted', 'offered')
               AND starts_at > %s
             ORDER BY event_id
            """,
            (user_id, now),
        ).fetchall()
        return [row["event_id"] for row in rows]

    def cancel(self, places: EventPlaces, user_id: int) -> tuple[Registration, int, EventPlaces] | None:
        row = self._connection.execute(
            """
            WITH held AS (
                SELECT id, status
                  FROM registrations.event_registrations
                 WHERE event_id = %s AND user_id = %s AND status IN ('active', 'waitlisted', 'offered')
            ), cancelled AS (
                UPDATE registrations.event_registrations AS registration
                   SET status = 'cancelled', version = version + 1, offer_expires_at = NULL
                  FROM held
                 WHERE registration.id = held.id
                RETURNING registration.*, held.status AS was
            ), counted AS (
                UPDATE registrations.events AS event
                   SET registered = registered - (was = 'active')::int,
                       waitlisted = waitlisted - (was = 'waitlisted')::int,
                       counts_version = counts_version + 1
                  FROM cancelled
                 WHERE event.event_id = cancelled.event_id
                RETURNING registered, waitlisted, counts_version
            )
            SELECT * FROM cancelled, counted
            """,
            (places.event_id, user_id),
        ).fetchone()
        if row is None:
            return None
        after = places.model_copy(update={name: row[name] for name in ("registered", "waitlisted", "counts_version")})
        return Registration.model_validate({**row, "position": None}), row["version"], after

    def held_registrations(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        rows = self._connection.execute(
            """
            SELECT to_jsonb(held) AS row
              FROM registrations.event_registrations AS held
             WHERE user_id = %s AND id > %s
             ORDER BY id
             LIMIT %s
            """,
            (user_id, after_id, limit),
        ).fetchall()
        return [row["row"] for row in rows]
