"""The SQL of the catalog schema."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg.errors import ForeignKeyViolation, NotNullViolation

from eventsplatform.adapters.postgres import Connection, Row
from eventsplatform.catalog.model import Event, EventIn, Location, Organizer, Price, ToldRegistration
from eventsplatform.catalog.service import UnknownCategoryError, UnknownOrganizerError

_EVENT = """
    SELECT event.*, organizer.name AS organizer_name
      FROM catalog.events AS event
      JOIN catalog.users AS organizer ON organizer.id = event.organizer_id
"""

# The organiser's row first, as whoever changes the name does: neither waits for the other in a circle, and an event
# that is being published goes out with the name that is then told, or is among those that go out with the new one.
_LOCKED_EVENT = """
    WITH organizer AS MATERIALIZED (
        SELECT id, name
          FROM catalog.users
         WHERE id = (SELECT organizer_id FROM catalog.events WHERE id = %(event_id)s)
           FOR SHARE
    )
    SELECT event.*, organizer.name AS organizer_name
      FROM organizer
      JOIN catalog.events AS event ON event.organizer_id = organizer.id
     WHERE event.id = %(event_id)s
       FOR UPDATE OF event
"""

_ADD_EVENT = """
    WITH event AS (
        INSERT INTO catalog.events
               (title, description, starts_at, ends_at, timezone, location_name, latitude, longitude,
                capacity, category, tags, price_amount, price_currency, organizer_id)
        VALUES (%(title)s, %(description)s, %(starts_at)s, %(ends_at)s, %(timezone)s, %(place)s, %(lat)s, %(lon)s,
                %(capacity)s, %(category)s, %(tags)s, %(amount)s, %(currency)s,
                (SELECT id FROM catalog.users WHERE id = %(organizer_id)s AND NOT erased FOR SHARE))
        RETURNING *
    )
    SELECT event.*, organizer.name AS organizer_name
      FROM event
      JOIN catalog.users AS organizer ON organizer.id = event.organizer_id
"""


class PostgresCatalog:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def categories(self) -> list[str]:
        rows = self._connection.execute("SELECT slug FROM catalog.categories ORDER BY slug").fetchall()
        return [row["slug"] for row in rows]

    def put_user(self, user_id: int, name: str, version: int) -> bool:
        row = self._connection.execute(
            """
            INSERT INTO catalog.users AS known (id, name, version)
            VALUES (%(id)s, %(name)s, %(version)s)
            ON CONFLICT (id) DO UPDATE
               SET name = excluded.name, version = excluded.version
             WHERE known.version < excluded.version
            RETURNING name <> (SELECT name FROM catalog.users WHERE id = %(id)s) AS renamed
            """,
            {"id": user_id, "name": name, "version": version},
        ).fetchone()
        # The query within sees the table as it was before: there is no name in it of a user who is new here.
        return row is not None and bool(row["renamed"])

    def erase_user(self, user_id: int, name: str, version: int) -> bool:
        row = self._connection.execute(
            """
            INSERT INTO catalog.users AS known (id, name, version, erased)
            VALUES (%s, %s, %s, true)
            ON CONFLICT (id) DO UPDATE
               SET name = excluded.name, version = excluded.version, erased = true
             WHERE NOT known.erased
            RETURNING id
            """,
            (user_id, name, version),
        ).fetchone()
        # Answers that are kept for repeats of their requests have the name, too.
        self._connection.execute(
            "DELETE FROM catalog.idempotency_keys WHERE outcome #>> '{result,organizer,id}' = %s", (str(user_id),)
        )
        return row is not None

    def delete_drafts(self, organizer_id: int) -> list[Event]:
        rows = self._connection.execute(
            """
            WITH event AS (
                DELETE FROM catalog.events WHERE organizer_id = %s AND status = 'draft'
                RETURNING *
            )
            SELECT event.*, organizer.name AS organizer_name
              FROM event
              JOIN catalog.users AS organizer ON organizer.id = event.organizer_id
             ORDER BY event.id
            """,
            (organizer_id,),
        ).fetchall()
        return [_event(row) for row in rows]

    def renew_published(self, organizer_id: int) -> list[Event]:
        rows = self._connection.execute(
            """
            WITH event AS (
                UPDATE catalog.events SET version = version + 1, updated_at = now()
                 WHERE organizer_id = %s AND status = 'published'
                RETURNING *
            )
            SELECT event.*, organizer.name AS organizer_name
              FROM event
              JOIN catalog.users AS organizer ON organizer.id = event.organizer_id
             ORDER BY event.id
            """,
            (organizer_id,),
        ).fetchall()
        return [_event(row) for row in rows]

    def renew_past(self, organizer_id: int, now: datetime) -> list[Event]:
        rows = self._connection.execute(
            """
            WITH event AS (
                UPDATE catalog.events SET version = version + 1, updated_at = now()
                 WHERE organizer_id = %s AND status <> 'draft' AND NOT (status = 'published' AND starts_at > %s)
                RETURNING *
            )
            SELECT event.*, organizer.name AS organizer_name
              FROM event
              JOIN catalog.users AS organizer ON organizer.id = event.organizer_id
             ORDER BY event.id
            """,
            (organizer_id, now),
        ).fetchall()
        return [_event(row) for row in rows]

    def cancel_upcoming(self, organizer_id: int, now: datetime) -> list[Event]:
        rows = self._connection.execute(
            """
            WITH event AS (
                UPDATE catalog.events SET status = 'cancelled', version = version + 1, updated_at = now()
                 WHERE organizer_id = %s AND status = 'published' AND starts_at > %s
                RETURNING *
            )
            SELECT event.*, organizer.name AS organizer_name
              FROM event
              JOIN catalog.users AS organizer ON organizer.id = event.organizer_id
             ORDER BY event.id
            """,
            (organizer_id, now),
        ).fetchall()
        return [_event(row) for row in rows]

    def held_users(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        rows = self._connection.execute(
            """
            SELECT to_jsonb(held) AS row
              FROM catalog.users AS held
             WHERE id = %s AND id > %s
             LIMIT %s
            """,
            (user_id, after_id, limit),
        ).fetchall()
        return [row["row"] for row in rows]

    def held_events(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        rows = self._connection.execute(
            """
            SELECT to_jsonb(held) AS row
              FROM catalog.events AS held
             WHERE organizer_id = %s AND id > %s
             ORDER BY id
             LIMIT %s
            """,
            (user_id, after_id, limit),
        ).fetchall()
        return [row["row"] for row in rows]

    def add_event(self, event: EventIn, organizer_id: int) -> Event:
        try:
            row = self._connection.execute(_ADD_EVENT, _values(event, organizer_id)).fetchone()
        except ForeignKeyViolation as error:
            raise UnknownCategoryError from error
        except NotNullViolation as error:
            # Nobody was found to be the organiser. The row of who was found stays as it is until the commit, so that
            # an erasure sees this event.
            raise UnknownOrganizerError from error
        assert row is not None
        return _event(row)

    def find_event(self, event_id: int, *, for_update: bool = False) -> Event | None:
        query = _LOCKED_EVENT if for_update else _EVENT + "WHERE event.id = %(event_id)s"
        row = self._connection.execute(query, {"event_id": event_id}).fetchone()
        return _event(row) if row else None

    def set_status(self, event_id: int, status: str) -> Event:
        self._connection.execute(
            "UPDATE catalog.events SET status = %s, version = version + 1, updated_at = now() WHERE id = %s",
            (status, event_id),
        )
        event = self.find_event(event_id)
        assert event is not None
        return event

    def put_counts(self, told: Sequence[ToldRegistration]) -> None:
        self._connection.execute(
            """
            UPDATE catalog.events AS event
               SET registered = told.registered, waitlisted = told.waitlisted, counts_version = told.version
              FROM unnest(%s::bigint[], %s::int[], %s::int[], %s::bigint[])
                   AS told (event_id, registered, waitlisted, version)
             WHERE event.id = told.event_id AND event.counts_version < told.version
            """,
            (
                [each.event_id for each in told],
                [each.counts.registered for each in told],
                [each.counts.waitlisted for each in told],
                [each.counts.version for each in told],
            ),
        )

    def page_of_published(self, after_id: int, limit: int) -> list[Event]:
        """Published events by id, for rebuilding what is projected from them."""
        rows = self._connection.execute(
            _EVENT + "WHERE event.status <> 'draft' AND event.id > %s ORDER BY event.id LIMIT %s", (after_id, limit)
        ).fetchall()
        return [_event(row) for row in rows]


def _values(event: EventIn, organizer_id: int) -> dict[str, Any]:
    return {
        "title": event.title,
        "description": event.description,
        "starts_at": event.starts_at,
        "ends_at": event.ends_at,
        "timezone": event.timezone,
        "place": event.location.name,
        "lat": event.location.lat,
        "lon": event.location.lon,
        "capacity": event.capacity,
        "category": event.category,
        "tags": event.tags,
        "amount": event.price.amount,
        "currency": event.price.currency,
        "organizer_id": organizer_id,
    }


def _event(row: Row) -> Event:
    return Event(
        id=row["id"],
        title=row["title"],
        description=row["description"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        timezone=row["timezone"],
        location=Location.model_construct(name=row["location_name"], lat=row["latitude"], lon=row["longitude"]),
        capacity=row["capacity"],
        category=row["category"],
        tags=row["tags"],
        price=Price.model_construct(amount=row["price_amount"], currency=row["price_currency"]),
        status=row["status"],
        organizer=Organizer(id=row["organizer_id"], name=row["organizer_name"]),
        registered=row["registered"],
        waitlisted=row["waitlisted"],
        available=max(0, row["capacity"] - row["registered"]),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
