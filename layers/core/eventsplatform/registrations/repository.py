"""The SQL of the registrations schema."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.errors import UniqueViolation

from eventsplatform.adapters.postgres import Connection
from eventsplatform.registrations.model import EventPlaces, Registration
from eventsplatform.registrations.service import AlreadyRegisteredError

_PLACES = "SELECT * FROM registrations.events WHERE event_id = %s"


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

    def add(self, places: EventPlaces, user_id: int) -> tuple[Registration, EventPlaces]:
        free = places.available > 0 and places.waitlisted == 0
        try:
            # Both results are fetched only then, so that the two statements travel together.
            registered = self._connection.execute(
                """
                INSERT INTO registrations.event_registrations (event_id, user_id, status)
                VALUES (%s, %s, %s)
                RETURNING id, event_id, user_id, status, registered_at, offer_expires_at
                """,
                (places.event_id, user_id, "active" if free else "waitlisted"),
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
        assert row is not None
        assert counts is not None
        after = EventPlaces(**counts)
        return Registration(**row, position=None if free else after.waitlisted), after
