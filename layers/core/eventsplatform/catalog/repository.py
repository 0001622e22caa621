"""The SQL of the catalog schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import orjson
from psycopg.errors import ForeignKeyViolation, NotNullViolation
from psycopg.types.json import Jsonb

from eventsplatform.adapters.postgres import Connection, Row
from eventsplatform.catalog.model import (
    Event,
    EventIn,
    EventListQuery,
    KnownEvent,
    Location,
    Membership,
    Organizer,
    Price,
    TeamRole,
    ToldPart,
)
from eventsplatform.catalog.occurrences import Series, SeriesIn, Slot
from eventsplatform.catalog.service import UnknownCategoryError, UnknownOrganizerError

# Of rows that stand in a query's own `event`: read, added or changed.
_SHOWN = """
    SELECT event.*, organizer.name AS organizer_name, team.members AS team
      FROM event
      JOIN catalog.users AS organizer ON organizer.id = event.organizer_id
      LEFT JOIN LATERAL (
               SELECT jsonb_agg(jsonb_build_object('user_id', user_id, 'role', role) ORDER BY user_id) AS members
                 FROM catalog.team_members
                WHERE event_id = event.id
           ) AS team ON true
     ORDER BY event.id
"""

# The organiser's row first, as whoever changes the name does: neither waits for the other in a circle, and an event
# that is being published goes out with the name that is then told, or is among those that go out with the new one.
_LOCKED_EVENT = """
    WITH locked AS MATERIALIZED (
        SELECT id
          FROM catalog.users
         WHERE id = (SELECT organizer_id FROM catalog.events WHERE id = %(event_id)s)
           FOR SHARE
    ), event AS MATERIALIZED (
        SELECT event.*
          FROM locked
          JOIN catalog.events AS event ON event.organizer_id = locked.id
         WHERE event.id = %(event_id)s
           FOR UPDATE OF event
    )
"""

_LOCKED_SERIES = """
    WITH locked AS MATERIALIZED (
        SELECT id
          FROM catalog.users
         WHERE id = (SELECT organizer_id FROM catalog.events WHERE id = %(event_id)s)
           FOR SHARE
    )
    SELECT series.id
      FROM locked
      JOIN catalog.series AS series ON series.organizer_id = locked.id
     WHERE series.id = (SELECT series_id FROM catalog.events WHERE id = %(event_id)s)
       FOR UPDATE OF series
"""

# By their ids, as everyone locks events.
_OF_SERIES = """
    WITH named AS (
        SELECT series_id, CASE WHEN %(following)s THEN series_date ELSE '-infinity' END AS first
          FROM catalog.events
         WHERE id = %(event_id)s
    ), event AS MATERIALIZED (
        SELECT event.*
          FROM catalog.events AS event
         WHERE event.id = %(event_id)s
            OR event.series_id = (SELECT series_id FROM named) AND event.series_date >= (SELECT first FROM named)
         ORDER BY event.id
"""
_FOR_UPDATE = " FOR UPDATE OF event"

_READ_EVENT = """
    WITH event AS (SELECT * FROM catalog.events WHERE id = %(event_id)s)
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
"""

_LISTED = """
    SELECT event.*, organizer.name AS organizer_name
      FROM catalog.events AS event
      JOIN catalog.users AS organizer ON organizer.id = event.organizer_id
"""
_IN_PERIOD = " (event.starts_at, event.id) > (%(after)s, %(after_id)s) AND event.starts_at <= %(until)s"
_IN_ORDER = " ORDER BY event.starts_at, event.id LIMIT %(limit)s"
_OF_STATUS = " AND event.status = %(status)s"


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
        self._connection.execute(
            "DELETE FROM catalog.inbox WHERE outcome #>> '{result,organizer,id}' = %s", (str(user_id),)
        )
        return row is not None

    def delete_drafts(self, organizer_id: int) -> list[KnownEvent]:
        rows = self._connection.execute(
            """
            WITH event AS (
                DELETE FROM catalog.events WHERE organizer_id = %s AND status = 'draft'
                RETURNING *
            )
            """
            + _SHOWN,
            (organizer_id,),
        ).fetchall()
        self._connection.execute(
            """
            DELETE FROM catalog.series
             WHERE organizer_id = %s AND NOT EXISTS (SELECT FROM catalog.events WHERE series_id = series.id)
            """,
            (organizer_id,),
        )
        return [_known_event(row) for row in rows]

    def renew_published(self, organizer_id: int) -> list[KnownEvent]:
        rows = self._connection.execute(
            """
            WITH event AS (
                UPDATE catalog.events SET version = version + 1, updated_at = now()
                 WHERE organizer_id = %s AND status = 'published'
                RETURNING *
            )
            """
            + _SHOWN,
            (organizer_id,),
        ).fetchall()
        return [_known_event(row) for row in rows]

    def renew_past(self, organizer_id: int, now: datetime) -> list[KnownEvent]:
        rows = self._connection.execute(
            """
            WITH event AS (
                UPDATE catalog.events SET version = version + 1, updated_at = now()
                 WHERE organizer_id = %s AND status <> 'draft' AND NOT (status = 'published' AND starts_at > %s)
                RETURNING *
            )
            """
            + _SHOWN,
            (organizer_id, now),
        ).fetchall()
        return [_known_event(row) for row in rows]

    def cancel_upcoming(self, organizer_id: int, now: datetime) -> list[KnownEvent]:
        rows = self._connection.execute(
            """
            WITH event AS (
                UPDATE catalog.events SET status = 'cancelled', version = version + 1, updated_at = now()
                 WHERE organizer_id = %s AND status = 'published' AND starts_at > %s
                RETURNING *
            )
            """
            + _SHOWN,
            (organizer_id, now),
        ).fetchall()
        return [_known_event(row) for row in rows]

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

    def held_series(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        rows = self._connection.execute(
            """
            SELECT to_jsonb(held) AS row
              FROM catalog.series AS held
             WHERE organizer_id = %s AND id > %s
             ORDER BY id
             LIMIT %s
            """,
            (user_id, after_id, limit),
        ).fetchall()
        return [row["row"] for row in rows]

    def held_memberships(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        rows = self._connection.execute(
            """
            SELECT to_jsonb(held) || jsonb_build_object('id', event_id) AS row
              FROM catalog.team_members AS held
             WHERE user_id = %s AND event_id > %s
             ORDER BY event_id
             LIMIT %s
            """,
            (user_id, after_id, limit),
        ).fetchall()
        return [row["row"] for row in rows]

    def add_event(self, event: EventIn, organizer_id: int) -> KnownEvent:
        values = {**_values(event), "organizer_id": organizer_id}
        try:
            row = self._connection.execute(_ADD_EVENT + _SHOWN, values).fetchone()
        except ForeignKeyViolation as error:
            raise UnknownCategoryError from error
        except NotNullViolation as error:
            # Nobody was found to be the organiser. The row of who was found stays as it is until the commit, so that
            # an erasure sees this event.
            raise UnknownOrganizerError from error
        assert row is not None
        return _known_event(row)

    def find_event(self, event_id: int, *, for_update: bool = False) -> KnownEvent | None:
        query = _LOCKED_EVENT if for_update else _READ_EVENT
        row = self._connection.execute(query + _SHOWN, {"event_id": event_id}).fetchone()
        return _known_event(row) if row else None

    def list_events(self, query: EventListQuery, after: tuple[datetime, int], until: datetime) -> list[Event]:
        rows = self._connection.execute(
            _LISTED
            + " WHERE"
            + _IN_PERIOD
            + _OF_STATUS
            + (" AND event.organizer_id = %(organizer)s" if query.organizer is not None else "")
            + (" AND event.category = %(category)s" if query.category is not None else "")
            + _IN_ORDER,
            _list_values(query, after, until),
        ).fetchall()
        return [_event(row) for row in rows]

    def list_own(
        self, user_id: int, query: EventListQuery, after: tuple[datetime, int], until: datetime
    ) -> list[Event]:
        # Each side reads no more than a page of its index.
        filters = (_OF_STATUS if query.status is not None else "") + (
            " AND event.category = %(category)s" if query.category is not None else ""
        )
        rows = self._connection.execute(
            "("
            + _LISTED
            + " WHERE event.organizer_id = %(user_id)s AND"
            + _IN_PERIOD
            + filters
            + _IN_ORDER
            + ") UNION ALL ("
            + _LISTED
            + " JOIN catalog.team_members AS member ON member.event_id = event.id"
            + " WHERE member.user_id = %(user_id)s AND"
            + _IN_PERIOD
            + filters
            + _IN_ORDER
            + ") ORDER BY starts_at, id LIMIT %(limit)s",
            {**_list_values(query, after, until), "user_id": user_id},
        ).fetchall()
        return [_event(row) for row in rows]

    def lock_series(self, event_id: int) -> None:
        self._connection.execute(_LOCKED_SERIES, {"event_id": event_id})

    def find_occurrences(self, event_id: int, *, following: bool, for_update: bool = False) -> list[KnownEvent]:
        values = {"event_id": event_id, "following": following}
        if not for_update:
            rows = self._connection.execute(_OF_SERIES + ")" + _SHOWN, values).fetchall()
            return [_known_event(row) for row in rows]
        while True:
            self._connection.execute("SAVEPOINT nothing_locked")
            series = self._connection.execute(_LOCKED_SERIES, values).fetchone()
            rows = self._connection.execute(_OF_SERIES + _FOR_UPDATE + ")" + _SHOWN, values).fetchall()
            if all(row["series_id"] == (series and series["id"]) for row in rows):
                return [_known_event(row) for row in rows]
            # It has become one of a series while its row was waited for. Everyone locks the series first.
            self._connection.execute("ROLLBACK TO SAVEPOINT nothing_locked")

    def change_events(self, wanted: Mapping[int, EventIn]) -> list[KnownEvent]:
        values = [{"id": event_id, **_values(event)} for event_id, event in wanted.items()]
        try:
            rows = self._connection.execute(
                """
                WITH event AS (
                    UPDATE catalog.events AS event
                       SET title = wanted.title, description = wanted.description, starts_at = wanted.starts_at,
                           ends_at = wanted.ends_at, timezone = wanted.timezone, location_name = wanted.place,
                           latitude = wanted.lat, longitude = wanted.lon, capacity = wanted.capacity,
                           category = wanted.category, tags = wanted.tags, price_amount = wanted.amount,
                           price_currency = wanted.currency, version = event.version + 1, updated_at = now()
                      FROM jsonb_to_recordset(%s)
                           AS wanted (id bigint, title text, description text, starts_at timestamptz,
                                      ends_at timestamptz, timezone text, place text, lat double precision,
                                      lon double precision, capacity integer, category text, tags text[],
                                      amount numeric, currency char(3))
                     WHERE event.id = wanted.id
                    RETURNING event.*
                )
                """
                + _SHOWN,
                (Jsonb(values, dumps=_as_json),),
            ).fetchall()
        except ForeignKeyViolation as error:
            raise UnknownCategoryError from error
        return [_known_event(row) for row in rows]

    def set_status(self, event_ids: Sequence[int], status: str, *, reason: str | None = None) -> list[KnownEvent]:
        rows = self._connection.execute(
            """
            WITH event AS (
                UPDATE catalog.events
                   SET status = %s, cancellation_reason = %s, version = version + 1, updated_at = now()
                 WHERE id = ANY(%s)
                RETURNING *
            )
            """
            + _SHOWN,
            (status, reason, list(event_ids)),
        ).fetchall()
        return [_known_event(row) for row in rows]

    def renew(self, event_ids: Sequence[int]) -> list[KnownEvent]:
        rows = self._connection.execute(
            """
            WITH event AS (
                UPDATE catalog.events SET version = version + 1, updated_at = now()
                 WHERE id = ANY(%s)
                RETURNING *
            )
            """
            + _SHOWN,
            (list(event_ids),),
        ).fetchall()
        return [_known_event(row) for row in rows]

    def complete_ended(self, now: datetime, limit: int) -> list[KnownEvent]:
        rows = self._connection.execute(
            """
            WITH ended AS (
                SELECT event.id
                  FROM catalog.events AS event
                  JOIN catalog.users AS organizer ON organizer.id = event.organizer_id
                 WHERE event.status = 'published' AND event.ends_at <= %s
                 ORDER BY event.ends_at, event.id
                 LIMIT %s
                   FOR UPDATE OF event SKIP LOCKED
                   FOR SHARE OF organizer SKIP LOCKED
            ), event AS (
                UPDATE catalog.events AS event
                   SET status = 'completed', version = event.version + 1, updated_at = now()
                  FROM ended
                 WHERE event.id = ended.id
                RETURNING event.*
            )
            """
            + _SHOWN,
            (now, limit),
        ).fetchall()
        return [_known_event(row) for row in rows]

    def delete_events(self, event_ids: Sequence[int]) -> None:
        self._connection.execute(
            """
            WITH deleted AS (
                DELETE FROM catalog.events WHERE id = ANY(%(event_ids)s) RETURNING series_id
            )
            DELETE FROM catalog.series
             WHERE id IN (SELECT series_id FROM deleted)
               AND NOT EXISTS (SELECT FROM catalog.events WHERE series_id = series.id AND id <> ALL(%(event_ids)s))
            """,
            {"event_ids": list(event_ids)},
        )

    def put_member(self, event_ids: Sequence[int], user_id: int, role: TeamRole) -> bool:
        row = self._connection.execute(
            """
            WITH member AS (
                SELECT id FROM catalog.users WHERE id = %(user_id)s AND NOT erased FOR SHARE
            ), put AS (
                INSERT INTO catalog.team_members (event_id, user_id, role)
                SELECT event.id, member.id, %(role)s
                  FROM member, unnest(%(event_ids)s::bigint[]) AS event (id)
                ON CONFLICT (event_id, user_id) DO UPDATE SET role = excluded.role
            )
            SELECT id FROM member
            """,
            {"event_ids": list(event_ids), "user_id": user_id, "role": role},
        ).fetchone()
        return row is not None

    def remove_member(self, event_ids: Sequence[int], user_id: int) -> None:
        self._connection.execute(
            "DELETE FROM catalog.team_members WHERE event_id = ANY(%s) AND user_id = %s", (list(event_ids), user_id)
        )

    def leave_teams(self, user_id: int) -> list[KnownEvent]:
        rows = self._connection.execute(
            "DELETE FROM catalog.team_members WHERE user_id = %s RETURNING event_id", (user_id,)
        ).fetchall()
        return self.renew([row["event_id"] for row in rows]) if rows else []

    def find_users(self, user_ids: Sequence[int]) -> dict[int, Organizer]:
        rows = self._connection.execute(
            "SELECT id, name FROM catalog.users WHERE id = ANY(%s) AND NOT erased", (list(user_ids),)
        ).fetchall()
        return {row["id"]: Organizer(id=row["id"], name=row["name"]) for row in rows}

    # Series ----------------------------------------------------------------------------------------

    def find_series(self, series_id: int) -> Series | None:
        row = self._connection.execute(
            "SELECT id, rule, starts_on, excluded_dates, extra_dates FROM catalog.series WHERE id = %s", (series_id,)
        ).fetchone()
        return Series(**row) if row else None

    def page_of_series(self, series_id: int, after: date, user_id: int | None, limit: int) -> list[Event]:
        rows = self._connection.execute(
            _LISTED
            + """
             WHERE event.series_id = %(series_id)s AND event.series_date > %(after)s
               AND (event.status <> 'draft' OR event.organizer_id = %(user_id)s
                    OR EXISTS (SELECT FROM catalog.team_members WHERE event_id = event.id AND user_id = %(user_id)s))
             ORDER BY event.series_date
             LIMIT %(limit)s
            """,
            {"series_id": series_id, "after": after, "user_id": user_id, "limit": limit},
        ).fetchall()
        return [_event(row) for row in rows]

    def add_series(self, event_id: int, starts_on: date, plan: SeriesIn) -> KnownEvent:
        row = self._connection.execute(
            """
            WITH series AS (
                INSERT INTO catalog.series (organizer_id, rule, starts_on, excluded_dates, extra_dates)
                SELECT organizer_id, %(rule)s, %(starts_on)s, %(excluded_dates)s::date[], %(extra_dates)s::date[]
                  FROM catalog.events
                 WHERE id = %(event_id)s
                RETURNING id, starts_on
            ), event AS (
                UPDATE catalog.events AS event
                   SET series_id = series.id, series_date = series.starts_on, version = event.version + 1,
                       updated_at = now()
                  FROM series
                 WHERE event.id = %(event_id)s
                RETURNING event.*
            )
            """
            + _SHOWN,
            {"event_id": event_id, "starts_on": starts_on, **plan.model_dump()},
        ).fetchone()
        assert row is not None
        return _known_event(row)

    def change_series(self, series_id: int, plan: SeriesIn) -> None:
        self._connection.execute(
            """
            UPDATE catalog.series
               SET rule = %(rule)s, excluded_dates = %(excluded_dates)s::date[], extra_dates = %(extra_dates)s::date[]
             WHERE id = %(series_id)s
            """,
            {"series_id": series_id, **plan.model_dump()},
        )

    def exclude_dates(self, event_ids: Sequence[int]) -> None:
        self._connection.execute(
            """
            UPDATE catalog.series
               SET excluded_dates = ARRAY(SELECT DISTINCT unnest(excluded_dates || gone.dates)
                                           EXCEPT SELECT unnest(extra_dates) ORDER BY 1),
                   extra_dates = ARRAY(SELECT unnest(extra_dates) EXCEPT SELECT unnest(gone.dates) ORDER BY 1)
              FROM (SELECT series_id, array_agg(series_date) AS dates
                      FROM catalog.events
                     WHERE id = ANY(%s) AND series_id IS NOT NULL
                     GROUP BY series_id) AS gone
             WHERE series.id = gone.series_id
            """,
            (list(event_ids),),
        )

    def add_occurrences(self, pattern: KnownEvent, planned: Sequence[Slot]) -> list[KnownEvent]:
        rows = self._connection.execute(
            """
            WITH event AS (
                INSERT INTO catalog.events
                       (title, description, timezone, location_name, latitude, longitude, capacity, category, tags,
                        price_amount, price_currency, organizer_id, series_id, series_date, starts_at, ends_at)
                SELECT title, description, timezone, location_name, latitude, longitude, capacity, category, tags,
                       price_amount, price_currency, organizer_id, series_id, slot.*
                  FROM catalog.events AS pattern,
                       unnest(%s::date[], %s::timestamptz[], %s::timestamptz[]) AS slot (date, starts_at, ends_at)
                 WHERE pattern.id = %s
                 ORDER BY slot.date
                RETURNING *
            )
            """
            + _SHOWN,
            (
                [slot.date for slot in planned],
                [slot.starts_at for slot in planned],
                [slot.ends_at for slot in planned],
                pattern.id,
            ),
        ).fetchall()
        self._connection.execute(
            """
            INSERT INTO catalog.team_members (event_id, user_id, role)
            SELECT added.id, user_id, role
              FROM catalog.team_members, unnest(%s::bigint[]) AS added (id)
             WHERE event_id = %s
            """,
            ([row["id"] for row in rows], pattern.id),
        )
        return [_known_event(row).model_copy(update={"team": pattern.team}) for row in rows]

    def put_counts(self, parts: Mapping[tuple[int, int], ToldPart]) -> None:
        event_ids = sorted({event_id for event_id, _ in parts})
        # In one order and before the sums are read: who adds another part at the same time waits.
        self._connection.execute(
            "SELECT FROM catalog.events WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE", (event_ids,)
        )
        self._connection.execute(
            """
            INSERT INTO catalog.event_counts AS known (event_id, part, registered, waitlisted, version)
            SELECT told.*
              FROM unnest(%s::bigint[], %s::smallint[], %s::int[], %s::int[], %s::bigint[])
                   AS told (event_id, part, registered, waitlisted, version)
              JOIN catalog.events AS event ON event.id = told.event_id
            ON CONFLICT (event_id, part) DO UPDATE
               SET registered = excluded.registered, waitlisted = excluded.waitlisted, version = excluded.version
             WHERE known.version < excluded.version
            """,
            (
                [event_id for event_id, _ in parts],
                [number for _, number in parts],
                [part.registered for part in parts.values()],
                [part.waitlisted for part in parts.values()],
                [part.version for part in parts.values()],
            ),
        )
        self._connection.execute(
            """
            UPDATE catalog.events AS event
               SET registered = counted.registered, waitlisted = counted.waitlisted, counts_version = counted.version
              FROM (SELECT event_id, sum(registered) AS registered, sum(waitlisted) AS waitlisted,
                           sum(version) AS version
                      FROM catalog.event_counts
                     WHERE event_id = ANY(%s)
                     GROUP BY event_id) AS counted
             WHERE event.id = counted.event_id AND event.counts_version < counted.version
            """,
            (event_ids,),
        )

    def page_of_events(self, after_id: int, limit: int) -> list[KnownEvent]:
        """Events by id, drafts too, for comparing them with what was told."""
        rows = self._connection.execute(
            "WITH event AS (SELECT * FROM catalog.events WHERE id > %s ORDER BY id LIMIT %s)" + _SHOWN,
            (after_id, limit),
        ).fetchall()
        return [_known_event(row) for row in rows]

    def page_of_published(self, after_id: int, limit: int) -> list[KnownEvent]:
        """Published events by id, for rebuilding what is projected from them."""
        rows = self._connection.execute(
            """
            WITH event AS (
                SELECT * FROM catalog.events WHERE status <> 'draft' AND id > %s ORDER BY id LIMIT %s
            )
            """
            + _SHOWN,
            (after_id, limit),
        ).fetchall()
        return [_known_event(row) for row in rows]


def _list_values(query: EventListQuery, after: tuple[datetime, int], until: datetime) -> dict[str, Any]:
    """One row more than the page tells whether there is a next."""
    return {
        "status": query.status or "published",
        "organizer": query.organizer,
        "category": query.category,
        "after": after[0],
        "after_id": after[1],
        "until": until,
        "limit": query.limit + 1,
    }


def _values(event: EventIn) -> dict[str, Any]:
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
    }


def _as_json(values: Any) -> bytes:
    return orjson.dumps(values, default=str)  # decimals keep their digits


def _event(row: Row) -> Event:
    return Event(**_fields(row))


def _known_event(row: Row) -> KnownEvent:
    team = [Membership.model_construct(**member) for member in row["team"] or ()]
    return KnownEvent(**_fields(row), team=team)


def _fields(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "title": row["title"],
        "description": row["description"],
        "starts_at": row["starts_at"],
        "ends_at": row["ends_at"],
        "timezone": row["timezone"],
        "location": Location.model_construct(name=row["location_name"], lat=row["latitude"], lon=row["longitude"]),
        "capacity": row["capacity"],
        "category": row["category"],
        "tags": row["tags"],
        "price": Price.model_construct(amount=row["price_amount"], currency=row["price_currency"]),
        "status": row["status"],
        "cancellation_reason": row["cancellation_reason"],
        "organizer": Organizer(id=row["organizer_id"], name=row["organizer_name"]),
        "registered": row["registered"],
        "waitlisted": row["waitlisted"],
        "available": max(0, row["capacity"] - row["registered"]),
        "series_id": row["series_id"],
        "series_date": row["series_date"],
        "version": row["version"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }
