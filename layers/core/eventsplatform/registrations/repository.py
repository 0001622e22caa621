"""The SQL of the registrations schema."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from eventsplatform.adapters.postgres import Connection, Row
from eventsplatform.messaging.model import Recording
from eventsplatform.registrations.lifecycle import AlreadyRegisteredError, NoFreePlaceError
from eventsplatform.registrations.model import (
    LINE,
    PARTS,
    Counts,
    EventFacts,
    EventPlaces,
    HeldRegistration,
    Part,
    PartCounts,
    Places,
    Registration,
)

# At once: of the parts with a free place one that nobody else is taking from, searched from a random one on.
_ANY_FREE_PART = """
        SELECT part
          FROM registrations.places
         WHERE event_id = %(event_id)s AND taken < capacity AND EXISTS (SELECT FROM event)
         ORDER BY (part + %(first)s) %% %(parts)s
         LIMIT 1
           FOR NO KEY UPDATE SKIP LOCKED
"""

# Waiting for whoever is taking from it: one part alone, for a row that turns out to be full stays locked, and who
# waits for a second one meanwhile could wait in a circle.
_ONE_FREE_PART = """
        SELECT part
          FROM registrations.places
         WHERE event_id = %(event_id)s AND taken < capacity AND EXISTS (SELECT FROM event)
           AND part = (SELECT part
                         FROM registrations.places
                        WHERE event_id = %(event_id)s AND taken < capacity
                        ORDER BY (part + %(first)s) %% %(parts)s
                        LIMIT 1)
           FOR NO KEY UPDATE
"""

_TAKE_FROM = """
    WITH event AS (
        SELECT capacity
          FROM registrations.events
         WHERE event_id = %(event_id)s AND status = 'published' AND starts_at > %(now)s
           AND NOT EXISTS (SELECT FROM registrations.erased_users WHERE user_id = %(user_id)s)
    ), place AS ("""
_AND_REGISTER = """    ), taken AS (
        UPDATE registrations.places
           SET taken = taken + 1, version = version + 1
          FROM place
         WHERE places.event_id = %(event_id)s AND places.part = place.part
        RETURNING places.part, taken, waiting, version
    ), registration AS (
        INSERT INTO registrations.event_registrations (event_id, user_id, status, part)
        SELECT %(event_id)s, %(user_id)s, 'active', part FROM taken
        RETURNING id, event_id, user_id, status, registered_at
    ), holder AS (
        INSERT INTO registrations.holders (event_id, user_id, registration_id, registered_at)
        SELECT event_id, user_id, id, registered_at FROM registration
    ), before AS (
        SELECT sum(taken)::int AS taken, sum(waiting)::int AS waiting, sum(version)::bigint AS version
          FROM registrations.places
         WHERE event_id = %(event_id)s
    ), told AS (
        SELECT 'registration' AS aggregate_type, id AS aggregate_id, 1 AS version, 'registrations.created' AS type,
               event_id::text AS partition_key, user_id AS actor_id, result,
               result || jsonb_build_object('counts', counts, 'actor_id', user_id) AS payload
          FROM registration, taken, event, before,
               jsonb_build_object(
                   'id', id, 'event_id', event_id, 'user_id', user_id, 'status', status, 'position', NULL,
                   'registered_at', to_char(registered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                   'offer_expires_at', NULL) AS result,
               jsonb_build_object(
                   'registered', before.taken + 1, 'waitlisted', before.waiting,
                   'available', greatest(0, capacity - before.taken - 1), 'version', before.version + 1,
                   'parts', jsonb_build_array(jsonb_build_object(
                       'number', part, 'registered', taken.taken, 'waitlisted', taken.waiting,
                       'version', taken.version))) AS counts
    ), answer AS (
        SELECT told.result, CASE WHEN told.result IS NULL THEN
                   EXISTS (SELECT FROM registrations.places WHERE event_id = %(event_id)s AND taken < capacity)
                   OR EXISTS (SELECT FROM registrations.offers
                               WHERE event_id = %(event_id)s AND expires_at <= %(now)s)
               END AS may_have_room
          FROM (SELECT) AS always
          LEFT JOIN told ON true
    )
"""
_TAKE_AT_ONCE = _TAKE_FROM + _ANY_FREE_PART + _AND_REGISTER
_TAKE_WAITING = _TAKE_FROM + _ONE_FREE_PART + _AND_REGISTER

_PLACES = """
    SELECT part AS number, capacity, taken, waiting, version
      FROM registrations.places
     WHERE event_id = %s
     ORDER BY part
"""

# Before and after every registration.
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


class PostgresRegistrations:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Events and their places -----------------------------------------------------------------------

    def find_event(self, event_id: int) -> EventPlaces | None:
        row = self._connection.execute(
            """
            SELECT event_id, organizer_id, status, starts_at, ends_at, timezone, capacity, team, version
              FROM registrations.events
             WHERE event_id = %s
            """,
            (event_id,),
        ).fetchone()
        return EventPlaces(**row) if row else None

    def facts_of(self, event_ids: Sequence[int]) -> dict[int, EventFacts]:
        rows = self._connection.execute(
            "SELECT event_id, facts FROM registrations.events WHERE event_id = ANY(%s) AND facts IS NOT NULL",
            (list(event_ids),),
        ).fetchall()
        return {row["event_id"]: EventFacts.model_validate(row["facts"]) for row in rows}

    def put_events(self, events: Sequence[EventFacts]) -> None:
        self._connection.cursor().executemany(
            """
            INSERT INTO registrations.events AS known
                   (event_id, organizer_id, status, starts_at, ends_at, timezone, capacity, team, facts, version)
            VALUES (%(id)s, %(organizer_id)s, %(status)s, %(starts_at)s, %(ends_at)s, %(timezone)s, %(capacity)s,
                    %(team)s, %(facts)s, %(version)s)
            ON CONFLICT (event_id) DO UPDATE
               SET organizer_id = excluded.organizer_id, status = excluded.status, starts_at = excluded.starts_at,
                   ends_at = excluded.ends_at, timezone = excluded.timezone, capacity = excluded.capacity,
                   team = excluded.team, facts = excluded.facts, version = excluded.version
             WHERE known.version < excluded.version OR known.facts IS NULL
            """,
            [_event_row(each) for each in events],
        )

    def set_capacity(self, event_id: int, capacity: int) -> None:
        self._connection.execute(
            "UPDATE registrations.events SET capacity = %s WHERE event_id = %s", (capacity, event_id)
        )

    def taken_places(self, event_ids: Sequence[int]) -> dict[int, int]:
        rows = self._connection.execute(
            "SELECT event_id, sum(taken)::int AS taken FROM registrations.places WHERE event_id = ANY(%s) GROUP BY 1",
            (list(event_ids),),
        ).fetchall()
        return {row["event_id"]: row["taken"] for row in rows}

    def add_places(self, event_ids: Sequence[int]) -> None:
        self._connection.execute(
            """
            INSERT INTO registrations.places (event_id, part, capacity)
            SELECT event_id, part, capacity / %(parts)s + (part < capacity %% %(parts)s)::int
              FROM registrations.events
             CROSS JOIN generate_series(0, %(parts)s - 1) AS part
             WHERE event_id = ANY(%(event_ids)s)
               AND NOT EXISTS (SELECT FROM registrations.places WHERE places.event_id = events.event_id)
            ON CONFLICT (event_id, part) DO NOTHING
            """,
            {"event_ids": list(event_ids), "parts": PARTS},
        )

    def unsettled(self, event_ids: Sequence[int]) -> list[int]:
        rows = self._connection.execute(
            """
            SELECT event.event_id
              FROM registrations.events AS event
              JOIN registrations.places AS place USING (event_id)
             WHERE event_id = ANY(%s)
             GROUP BY event.event_id
            HAVING sum(place.waiting) > 0 AND event.capacity > sum(place.taken)
                OR sum(place.waiting) = 0 AND greatest(event.capacity, sum(place.taken)) <> sum(place.capacity)
             ORDER BY event.event_id
            """,
            (list(event_ids),),
        ).fetchall()
        return [row["event_id"] for row in rows]

    def may_have_room(self, event_id: int, now: datetime) -> bool:
        row = self._connection.execute(
            """
            SELECT EXISTS (SELECT FROM registrations.places WHERE event_id = %(event_id)s AND taken < capacity)
                OR EXISTS (SELECT FROM registrations.offers WHERE event_id = %(event_id)s AND expires_at <= %(now)s)
                   AS answer
            """,
            {"event_id": event_id, "now": now},
        ).fetchone()
        assert row is not None
        return bool(row["answer"])

    def lock_line(self, event_id: int) -> None:
        self._connection.execute(
            "SELECT FROM registrations.places WHERE event_id = %s AND part = %s FOR NO KEY UPDATE", (event_id, LINE)
        )

    def lock_places(self, event_id: int) -> Places:
        self.lock_line(event_id)
        rows = self._connection.execute(_PLACES + "FOR NO KEY UPDATE", (event_id,)).fetchall()
        return Places(Part(**row) for row in rows)

    def parts(self, event_id: int) -> list[Part]:
        return [Part(**row) for row in self._connection.execute(_PLACES, (event_id,)).fetchall()]

    def put_places(self, event_id: int, parts: Sequence[Part]) -> None:
        self._connection.execute(
            """
            UPDATE registrations.places
               SET capacity = put.capacity, taken = put.taken, waiting = put.waiting, version = put.version
              FROM unnest(%s::smallint[], %s::int[], %s::int[], %s::int[], %s::bigint[])
                   AS put (part, capacity, taken, waiting, version)
             WHERE places.event_id = %s AND places.part = put.part
            """,
            (
                [part.number for part in parts],
                [part.capacity for part in parts],
                [part.taken for part in parts],
                [part.waiting for part in parts],
                [part.version for part in parts],
                event_id,
            ),
        )

    # Registrations ---------------------------------------------------------------------------------

    def take_place(
        self, recording: Recording, event_id: int, user_id: int, now: datetime, *, wait: bool
    ) -> Registration:
        first = random.randrange(PARTS)  # noqa: S311  spreads load
        values = {"event_id": event_id, "user_id": user_id, "now": now, "first": first, "parts": PARTS}
        with _one_registration_each():
            row = recording.execute(_TAKE_WAITING if wait else _TAKE_AT_ONCE, values)
        if row["result"] is None:
            raise NoFreePlaceError(row["may_have_room"])
        return Registration.model_validate(row["result"])

    def add_active(self, event_id: int, user_id: int, part: int) -> Registration:
        with _one_registration_each():
            row = self._connection.execute(
                """
                WITH registration AS (
                    INSERT INTO registrations.event_registrations (event_id, user_id, status, part)
                    VALUES (%(event_id)s, %(user_id)s, 'active', %(part)s)
                    RETURNING id, event_id, user_id, status, registered_at, offer_expires_at
                ), holder AS (
                    INSERT INTO registrations.holders (event_id, user_id, registration_id, registered_at)
                    SELECT event_id, user_id, id, registered_at FROM registration
                )
                SELECT * FROM registration
                """,
                {"event_id": event_id, "user_id": user_id, "part": part},
            ).fetchone()
        assert row is not None
        return registration_of(row)

    def add_waiting(self, event_id: int, user_id: int, now: datetime) -> tuple[Registration, Counts] | None:
        with _one_registration_each():
            row = self._connection.execute(
                """
                WITH event AS (
                    SELECT capacity
                      FROM registrations.events
                     WHERE event_id = %(event_id)s AND status = 'published' AND starts_at > %(now)s
                       AND NOT EXISTS (SELECT FROM registrations.erased_users WHERE user_id = %(user_id)s)
                       AND NOT EXISTS (SELECT FROM registrations.places
                                        WHERE event_id = %(event_id)s AND taken < places.capacity)
                       AND NOT EXISTS (SELECT FROM registrations.offers
                                        WHERE event_id = %(event_id)s AND expires_at <= %(now)s)
                ), line AS (
                    UPDATE registrations.places
                       SET waiting = waiting + 1, last_ticket = last_ticket + 1, version = version + 1
                     WHERE event_id = %(event_id)s AND part = %(line)s AND EXISTS (SELECT FROM event)
                    RETURNING part, taken, waiting, last_ticket, version
                ), registration AS (
                    INSERT INTO registrations.event_registrations (event_id, user_id, status, ticket)
                    SELECT %(event_id)s, %(user_id)s, 'waitlisted', last_ticket FROM line
                    RETURNING id, event_id, user_id, status, ticket, registered_at, offer_expires_at
                ), entry AS (
                    INSERT INTO registrations.waitlist (event_id, ticket, registration_id, registered_at)
                    SELECT event_id, ticket, id, registered_at FROM registration
                ), holder AS (
                    INSERT INTO registrations.holders (event_id, user_id, registration_id, registered_at)
                    SELECT event_id, user_id, id, registered_at FROM registration
                ), before AS (
                    SELECT sum(taken)::int AS taken, sum(waiting)::int AS waiting, sum(version)::bigint AS version
                      FROM registrations.places
                     WHERE event_id = %(event_id)s
                )
                SELECT registration.*, line.part, line.taken, line.waiting, line.version, event.capacity,
                       before.taken AS all_taken, before.waiting AS all_waiting, before.version AS all_versions
                  FROM registration, line, before, event
                """,
                {"event_id": event_id, "user_id": user_id, "now": now, "line": LINE},
            ).fetchone()
        return (registration_of(row, position=row["waiting"]), _counts_with_waiting(row)) if row else None

    def find_held(self, event_id: int, user_id: int) -> HeldRegistration | None:
        row = self._connection.execute(
            """
            SELECT registration.*
              FROM registrations.holders AS holder
              JOIN registrations.event_registrations AS registration
                ON registration.id = holder.registration_id AND registration.registered_at = holder.registered_at
             WHERE holder.event_id = %s AND holder.user_id = %s
               FOR NO KEY UPDATE OF registration
            """,
            (event_id, user_id),
        ).fetchone()
        return _held(row) if row else None

    def cancel(self, held: Sequence[HeldRegistration]) -> list[HeldRegistration]:
        # Rows of a partitioned table are named by id and moment, so that only one partition is looked into.
        rows = self._connection.execute(
            """
            WITH cancelled AS (
                UPDATE registrations.event_registrations AS registration
                   SET status = 'cancelled', part = NULL, offer_expires_at = NULL, version = version + 1
                  FROM unnest(%(ids)s::bigint[], %(moments)s::timestamptz[]) AS named (id, registered_at)
                 WHERE registration.id = named.id AND registration.registered_at = named.registered_at
                RETURNING registration.*
            ), left_line AS (
                DELETE FROM registrations.waitlist
                 USING cancelled
                 WHERE waitlist.event_id = cancelled.event_id AND waitlist.ticket = cancelled.ticket
            ), withdrawn AS (
                DELETE FROM registrations.offers USING cancelled WHERE registration_id = cancelled.id
            ), left_event AS (
                DELETE FROM registrations.holders
                 USING cancelled
                 WHERE holders.event_id = cancelled.event_id AND holders.user_id = cancelled.user_id
            )
            SELECT * FROM cancelled ORDER BY id
            """,
            _names(held),
        ).fetchall()
        return [_held(row) for row in rows]

    def accept(self, held: HeldRegistration) -> HeldRegistration:
        row = self._connection.execute(
            """
            WITH accepted AS (
                UPDATE registrations.event_registrations
                   SET status = 'active', offer_expires_at = NULL, version = version + 1
                 WHERE id = %s AND registered_at = %s
                RETURNING *
            ), withdrawn AS (
                DELETE FROM registrations.offers USING accepted WHERE registration_id = accepted.id
            )
            SELECT * FROM accepted
            """,
            (held.registration.id, held.registration.registered_at),
        ).fetchone()
        assert row is not None
        return _held(row)

    def revoke_tickets(self, event_id: int, registration_ids: Sequence[int], at: datetime) -> None:
        self._connection.execute(
            """
            WITH door AS (
                INSERT INTO registrations.doors AS door (event_id, number)
                VALUES (%(event_id)s, %(tickets)s)
                ON CONFLICT (event_id) DO UPDATE SET number = door.number + excluded.number
                RETURNING number
            )
            INSERT INTO registrations.revoked_tickets AS revoked (registration_id, event_id, serial, number, revoked_at)
            SELECT id, %(event_id)s, 1, door.number - %(tickets)s + rank, %(at)s
              FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY AS named (id, rank)
             CROSS JOIN door
            ON CONFLICT (registration_id) DO UPDATE
               SET serial = revoked.serial + 1, number = excluded.number, revoked_at = excluded.revoked_at
            """,
            {"event_id": event_id, "ids": list(registration_ids), "tickets": len(registration_ids), "at": at},
        )

    # The line and its offers -----------------------------------------------------------------------

    def offer(self, event_id: int, parts: Sequence[int], expires_at: datetime) -> list[HeldRegistration]:
        rows = self._connection.execute(
            """
            WITH first AS (
                SELECT ticket, registration_id, registered_at, row_number() OVER (ORDER BY ticket) AS rank
                  FROM (SELECT *
                          FROM registrations.waitlist
                         WHERE event_id = %(event_id)s
                         ORDER BY ticket
                         LIMIT cardinality(%(parts)s::smallint[])) AS line
            ), left_line AS (
                DELETE FROM registrations.waitlist
                 USING first
                 WHERE waitlist.event_id = %(event_id)s AND waitlist.ticket = first.ticket
            ), offered AS (
                UPDATE registrations.event_registrations AS registration
                   SET status = 'offered', part = (%(parts)s::smallint[])[first.rank],
                       offer_expires_at = %(expires_at)s, version = version + 1
                  FROM first
                 WHERE registration.id = first.registration_id AND registration.registered_at = first.registered_at
                RETURNING registration.*
            ), offer AS (
                INSERT INTO registrations.offers (registration_id, registered_at, event_id, expires_at)
                SELECT id, registered_at, event_id, offer_expires_at FROM offered
            )
            SELECT * FROM offered ORDER BY ticket
            """,
            {"event_id": event_id, "parts": list(parts), "expires_at": expires_at},
        ).fetchall()
        return [_held(row) for row in rows]

    def due_offers(self, event_id: int, now: datetime, limit: int) -> list[HeldRegistration]:
        rows = self._connection.execute(
            """
            SELECT registration.*
              FROM (SELECT *
                      FROM registrations.offers
                     WHERE event_id = %s AND expires_at <= %s
                     ORDER BY expires_at
                     LIMIT %s) AS offer
              JOIN registrations.event_registrations AS registration
                ON registration.id = offer.registration_id AND registration.registered_at = offer.registered_at
             ORDER BY offer.expires_at, registration.id
            """,
            (event_id, now, limit),
        ).fetchall()
        return [_held(row) for row in rows]

    def events_with_due_offers(self, now: datetime, limit: int) -> list[int]:
        rows = self._connection.execute(
            """
            SELECT DISTINCT event_id
              FROM (SELECT event_id FROM registrations.offers WHERE expires_at <= %s ORDER BY expires_at LIMIT %s)
                   AS due
             ORDER BY event_id
            """,
            (now, limit),
        ).fetchall()
        return [row["event_id"] for row in rows]

    # Lists -----------------------------------------------------------------------------------------

    def page_of_event(self, event_id: int, after: tuple[datetime, int] | None, limit: int) -> list[Registration]:
        # Only from the first of the page who waits, whose position is known without a count.
        rows = self._connection.execute(
            """
            WITH page AS (
                SELECT *
                  FROM registrations.event_registrations
                 WHERE event_id = %(event_id)s AND registered_at >= %(moment)s
                   AND (registered_at, id) > (%(moment)s, %(id)s)
                 ORDER BY registered_at, id
                 LIMIT %(limit)s
            ), first AS MATERIALIZED (
                SELECT ticket, registrations.position_in_line(%(event_id)s, ticket) AS position
                  FROM (SELECT min(ticket) AS ticket FROM page WHERE status = 'waitlisted') AS waiting
            )
            SELECT page.*,
                   CASE WHEN status = 'waitlisted'
                        THEN first.position - 1 + (SELECT count(*)
                                                     FROM registrations.waitlist
                                                    WHERE waitlist.event_id = %(event_id)s
                                                      AND waitlist.ticket BETWEEN first.ticket AND page.ticket)
                   END AS position
              FROM page, first
             ORDER BY registered_at, id
            """,
            {"event_id": event_id, "limit": limit, **_boundary(after or (_FIRST, 0))},
        ).fetchall()
        return [registration_of(row, position=row["position"]) for row in rows]

    def page_of_user(self, user_id: int, before: tuple[datetime, int] | None, limit: int) -> list[Registration]:
        rows = self._connection.execute(
            """
            SELECT page.*,
                   CASE WHEN status = 'waitlisted' THEN registrations.position_in_line(event_id, ticket) END AS position
              FROM (SELECT *
                      FROM registrations.event_registrations
                     WHERE user_id = %(user_id)s AND registered_at <= %(moment)s
                       AND (registered_at, id) < (%(moment)s, %(id)s)
                     ORDER BY registered_at DESC, id DESC
                     LIMIT %(limit)s) AS page
             ORDER BY registered_at DESC, id DESC
            """,
            {"user_id": user_id, "limit": limit, **_boundary(before or (_LAST, 0))},
        ).fetchall()
        return [registration_of(row, position=row["position"]) for row in rows]

    # People who are to be forgotten ----------------------------------------------------------------

    def erase_user(self, user_id: int) -> None:
        # Every registration has this table locked, from before it looks for the row added here: those under way are
        # waited for, and those to come find the row. So it costs them nothing, and erasing people is rare.
        self._connection.execute("LOCK TABLE registrations.holders IN SHARE MODE")
        self._connection.execute(
            "INSERT INTO registrations.erased_users (user_id) VALUES (%s) ON CONFLICT (user_id) DO NOTHING", (user_id,)
        )

    def is_erased(self, user_id: int) -> bool:
        row = self._connection.execute(
            "SELECT FROM registrations.erased_users WHERE user_id = %s", (user_id,)
        ).fetchone()
        return row is not None

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

    def held_check_ins(self, user_id: int, after_id: int, limit: int) -> list[dict[str, Any]]:
        rows = self._connection.execute(
            """
            SELECT to_jsonb(held) AS row
              FROM registrations.check_ins AS held
             WHERE user_id = %s AND id > %s
             ORDER BY id
             LIMIT %s
            """,
            (user_id, after_id, limit),
        ).fetchall()
        return [row["row"] for row in rows]


def _event_row(event: EventFacts) -> Row:
    facts = event.model_dump(mode="json")
    columns = event.model_dump(include={"id", "status", "starts_at", "ends_at", "timezone", "capacity", "version"})
    return {**columns, "organizer_id": event.organizer.id, "team": Jsonb(facts["team"]), "facts": Jsonb(facts)}


def registration_of(row: Row, *, position: int | None = None) -> Registration:
    return Registration(
        id=row["id"],
        event_id=row["event_id"],
        user_id=row["user_id"],
        status=row["status"],
        position=position,
        registered_at=row["registered_at"],
        offer_expires_at=row["offer_expires_at"],
    )


def _held(row: Row) -> HeldRegistration:
    return HeldRegistration(registration_of(row), row["version"], row["part"], row["ticket"])


def _counts_with_waiting(row: Row) -> Counts:
    """After one more has joined the line; `all_…` are the sums over all parts as they were before it."""
    return Counts(
        registered=row["all_taken"],
        waitlisted=row["all_waiting"] + 1,
        available=max(0, row["capacity"] - row["all_taken"]),
        version=row["all_versions"] + 1,
        parts=[
            PartCounts(number=row["part"], registered=row["taken"], waitlisted=row["waiting"], version=row["version"])
        ],
    )


@contextmanager
def _one_registration_each() -> Iterator[None]:
    """Raises AlreadyRegisteredError for a person's second one."""
    try:
        yield
    except UniqueViolation as error:
        if error.diag.constraint_name != "one_registration_per_person":
            raise
        raise AlreadyRegisteredError from error


def _names(held: Sequence[HeldRegistration]) -> Row:
    registrations = [each.registration for each in held]
    return {"ids": [each.id for each in registrations], "moments": [each.registered_at for each in registrations]}


def _boundary(position: tuple[datetime, int]) -> Row:
    moment, last_id = position
    return {"moment": moment, "id": last_id}
