"""A database with as many registrations as a test or a benchmark wants, made by set-based statements in seconds.

Four months of them, skewed as they are in life: an eighth belong to one hot event, whose line is long, an eighth to one
where hardly anyone has a place, and the rest to thousands of small ones. What grows with registrations grows with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import conninfo, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from eventsplatform.adapters.partitions import PostgresMonths
from eventsplatform.adapters.postgres import Database
from eventsplatform.clock import utc_now
from eventsplatform.config import DatabaseSettings
from eventsplatform.months import following_month
from eventsplatform.operations.migrate import migrate
from eventsplatform.registrations.model import PARTS, EventFacts, Organizer, Place
from eventsplatform.registrations.wiring import REGISTRATIONS

DATABASE = "many_registrations"
ORGANIZER = 7
# Of the first ones, which are many registrations' alone.
HOT, CROWDED, OPEN = 1, 2, 3
SMALL_EVENTS = 7_993  # a prime: whoever is at two of them is at different ones
USERS = 200_000
MONTHS_BACK = 3
LASTING = timedelta(days=80)

# Registration number `n` of `total`: whose and which event's it is, and what became of it. The hot event's last ones
# wait, nearly everyone of the crowded one does, and of the offers some are due.
_REGISTRATIONS = """
    INSERT INTO registrations.event_registrations
           (id, event_id, user_id, status, part, ticket, registered_at, offer_expires_at)
    SELECT n, event_id, user_id, status,
           CASE WHEN status IN ('active', 'offered', 'checked_in') THEN n %% %(parts)s END,
           CASE WHEN status IN ('waitlisted', 'offered') THEN n / 8 END,
           %(first)s::timestamptz + n * (%(last)s::timestamptz - %(first)s::timestamptz) / %(total)s,
           CASE WHEN status = 'offered' THEN %(last)s::timestamptz + (n %% 7 - 1) * interval '1 hour' END
      FROM generate_series(1, %(total)s) AS n
     CROSS JOIN LATERAL (
               SELECT CASE WHEN n %% 8 = 0 THEN %(hot)s WHEN n %% 8 = 4 THEN %(crowded)s
                           ELSE 10 + n %% %(small)s END AS event_id,
                      CASE WHEN n %% 4 = 0 THEN n / 8 ELSE n %% %(users)s END AS user_id
          ) AS whose
     CROSS JOIN LATERAL (
               SELECT CASE WHEN event_id = %(hot)s AND n > %(total)s * 0.85 THEN 'waitlisted'
                           WHEN event_id = %(crowded)s AND n > %(total)s * 0.02 THEN 'waitlisted'
                           WHEN event_id = %(crowded)s AND n > %(total)s * 0.019 OR n %% 200 = 1 THEN 'offered'
                           WHEN n %% 20 = 3 THEN 'cancelled'
                           WHEN n %% 4 = 3 THEN 'checked_in'
                           ELSE 'active' END AS status
          ) AS state
"""
_FOLLOWING: dict[str, str] = {
    "who holds them": """
        INSERT INTO registrations.holders (event_id, user_id, registration_id, registered_at)
        SELECT event_id, user_id, id, registered_at
          FROM registrations.event_registrations
         WHERE status <> 'cancelled'
         ORDER BY event_id, user_id
    """,
    "who waits": """
        INSERT INTO registrations.waitlist (event_id, ticket, registration_id, registered_at)
        SELECT event_id, ticket, id, registered_at
          FROM registrations.event_registrations
         WHERE status = 'waitlisted'
         ORDER BY event_id, ticket
    """,
    "who has an offer": """
        INSERT INTO registrations.offers (registration_id, registered_at, event_id, expires_at)
        SELECT id, registered_at, event_id, offer_expires_at
          FROM registrations.event_registrations
         WHERE status = 'offered'
    """,
    # Full where people wait; elsewhere there is room.
    "places": """
        INSERT INTO registrations.places (event_id, part, capacity, taken, waiting, last_ticket, version)
        SELECT event_id, part, CASE WHEN line > 0 THEN taken ELSE taken + 10 END, taken,
               CASE WHEN part = 0 THEN line ELSE 0 END, CASE WHEN part = 0 THEN %(total)s ELSE 0 END, taken
          FROM (SELECT event_id, part, coalesce(taken, 0) AS taken,
                       (SELECT count(*) FROM registrations.waitlist WHERE waitlist.event_id = event.event_id) AS line
                  FROM registrations.events AS event
                 CROSS JOIN generate_series(0, %(parts)s - 1) AS part
                  LEFT JOIN (SELECT event_id, part, count(*) AS taken
                               FROM registrations.event_registrations
                              WHERE part IS NOT NULL
                              GROUP BY event_id, part) AS counted USING (event_id, part)) AS counted
    """,
    "capacities": """
        UPDATE registrations.events AS event
           SET capacity = counted.capacity
          FROM (SELECT event_id, greatest(1, sum(capacity)) AS capacity FROM registrations.places GROUP BY event_id)
               AS counted
         WHERE counted.event_id = event.event_id
    """,
    "what attendees know of events": """
        INSERT INTO registrations.announcements (event_id, schedule)
        SELECT event_id, jsonb_build_object('starts_at', starts_at, 'ends_at', ends_at, 'timezone', timezone,
                                            'location', facts -> 'location')
          FROM registrations.events
    """,
    "who has come": """
        INSERT INTO registrations.check_ins
               (registration_id, event_id, user_id, scan_id, checked_in_at, checked_in_by, number)
        SELECT id, event_id, user_id, gen_random_uuid(), %(last)s, %(organizer)s,
               row_number() OVER (PARTITION BY event_id ORDER BY id)
          FROM registrations.event_registrations
         WHERE status = 'checked_in'
    """,
    "doors": """
        INSERT INTO registrations.doors (event_id, checked_in, number)
        SELECT event_id, count(*), 2 * count(*) FROM registrations.check_ins GROUP BY event_id
    """,
    # Of one in fifty the ticket was issued again.
    "revoked tickets": """
        INSERT INTO registrations.revoked_tickets (registration_id, event_id, serial, number, revoked_at)
        SELECT id, event_id, 1, 1_000_000 + id, registered_at
          FROM registrations.event_registrations
         WHERE id %% 50 = 7
    """,
    # Of every tenth registration; those of the last day have not been sent yet.
    "mails": """
        INSERT INTO registrations.attendee_mails
               (cause, kind, user_id, event_id, registration_id, registered_at, happened_at, due_at, closed_at, outcome)
        SELECT 'registration-' || id || '-1', 'confirmation', user_id, event_id, id, registered_at, registered_at,
               CASE WHEN registered_at > %(last)s::timestamptz - interval '1 day' THEN registered_at END,
               CASE WHEN registered_at <= %(last)s::timestamptz - interval '1 day' THEN registered_at END,
               CASE WHEN registered_at <= %(last)s::timestamptz - interval '1 day' THEN 'sent' END
          FROM registrations.event_registrations
         WHERE id %% 10 = 0
    """,
    "webhooks": """
        INSERT INTO registrations.webhooks
               (user_id, url, description, event_types, switched_at, created_at, updated_at)
        SELECT %(organizer)s + n %% 50, 'https://example.org/' || n, '', '{{registrations.*}}', %(first)s, %(first)s,
               %(first)s
          FROM generate_series(0, 99) AS n
    """,
    "webhooks' secrets": """
        INSERT INTO registrations.webhook_secrets (webhook_id, sealed) SELECT id, 'sealed' FROM registrations.webhooks
    """,
    "what webhooks were told": """
        INSERT INTO registrations.webhook_deliveries
               (webhook_id, message_id, type, event_id, event_version, body, status, next_attempt_at, created_at)
        SELECT 1 + id / 32 %% 100, 'registration-' || id || '-1', 'registrations.created', event_id, 1, '{{}}',
               CASE WHEN id > %(total)s * 0.99 THEN 'pending' ELSE 'delivered' END,
               CASE WHEN id > %(total)s * 0.99 THEN registered_at END, registered_at
          FROM registrations.event_registrations
         WHERE id %% 32 = 0
    """,
    # Requests are remembered for a day, messages for eight.
    "requests": """
        INSERT INTO registrations.idempotency_keys (id, fingerprint, outcome, created_at)
        SELECT sha256(id::text::bytea), '\\x00', '{{}}', %(last)s::timestamptz - id %% 100_000 * interval '1 second'
          FROM registrations.event_registrations
         WHERE id %% 16 = 0
    """,
    "messages": """
        INSERT INTO registrations.inbox (id, created_at)
        SELECT sha256(id::text::bytea), %(last)s::timestamptz - id %% 100_000 * interval '8 seconds'
          FROM registrations.event_registrations
         WHERE id %% 16 = 0
    """,
}
_TOLD = """
    INSERT INTO messaging.outbox
           (shard, aggregate_type, aggregate_id, version, type, partition_key, payload, actor_id, traceparent,
            occurred_at, published_at)
    SELECT event_id %% 4, 'registration', id, 1, 'registrations.created', event_id::text,
           jsonb_build_object('id', id, 'event_id', event_id, 'user_id', user_id, 'status', status, 'position', NULL,
                              'registered_at', registered_at, 'offer_expires_at', NULL,
                              'counts', '{{"registered": 1, "waitlisted": 0, "available": 0, "version": 1}}'::jsonb),
           user_id, '', registered_at, registered_at
      FROM registrations.event_registrations
"""


@dataclass(frozen=True)
class ManyRegistrations:
    """The database, and what is in it. Registrations have the numbers from 1 on, and the tickets of their line."""

    url: str
    total: int

    @contextmanager
    def connected(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as connection:
            yield connection


@contextmanager
def many_registrations(server: str, total: int, *, told: bool = False) -> Iterator[ManyRegistrations]:
    """A database of its own on the server at this address, as long as the context is open.

    `told`: with the rows of the outbox that told of them.
    """
    name = sql.Identifier(f"{DATABASE}_{total}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    made = ManyRegistrations(conninfo.make_conninfo(server, dbname=f"{DATABASE}_{total}"), total)
    try:
        migrate(made.url)
        _add_months(made.url)
        with made.connected() as connection:
            _fill(connection, total, told=told)
        yield made
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _add_months(url: str) -> None:
    database = Database(DatabaseSettings(url, "registrations", False))
    months = PostgresMonths(database, REGISTRATIONS)
    first = utc_now().date().replace(day=1)
    try:
        for _ in range(MONTHS_BACK):
            first, following = (first - timedelta(days=1)).replace(day=1), first
            if not months.has_month(first):
                months.add_month(first, following_month(first))
            assert following == following_month(first)
    finally:
        database.close()


def _fill(connection: psycopg.Connection[Any], total: int, *, told: bool) -> None:
    now = utc_now()
    values = {
        "total": total,
        "parts": PARTS,
        "hot": HOT,
        "crowded": CROWDED,
        "small": SMALL_EVENTS,
        "users": USERS,
        "organizer": ORGANIZER,
        "first": now - LASTING,
        "last": now,
    }
    # What a crash would lose can be made again.
    connection.execute("SET synchronous_commit = off")
    connection.execute("SET work_mem = '256MB'")
    connection.execute(
        """
        INSERT INTO registrations.events
               (event_id, organizer_id, status, starts_at, ends_at, timezone, capacity, facts, version)
        SELECT id, CASE WHEN id < 10 THEN %(organizer)s ELSE %(organizer)s + id %% 500 END, 'published',
               %(starts_at)s::timestamptz + id * interval '1 minute',
               %(ends_at)s::timestamptz + id * interval '1 minute', 'UTC', 1,
               %(facts)s || jsonb_build_object('id', id), 1
          FROM generate_series(1, %(small)s + 9) AS id
        """,
        {
            **values,
            "facts": Jsonb(facts().model_dump(mode="json")),
            "starts_at": facts().starts_at,
            "ends_at": facts().ends_at,
        },
    )
    with _indexed_afterwards(connection):
        connection.execute(_REGISTRATIONS, values)
    connection.execute("SELECT setval('registrations.registration_ids', %s)", (total,))
    for statement in (*_FOLLOWING.values(), *([_TOLD] if told else [])):
        connection.execute(sql.SQL(statement).format(), values)
    connection.execute("VACUUM (ANALYZE)")


@contextmanager
def _indexed_afterwards(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Registrations get their indexes when they are there: sorting them once takes less than finding each its place."""
    indexes = connection.execute(
        """
        SELECT indexname, indexdef
          FROM pg_indexes
         WHERE schemaname = 'registrations' AND tablename = 'event_registrations' AND indexname NOT LIKE '%_pkey'
        """
    ).fetchall()
    for index in indexes:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier("registrations", index["indexname"])))
    yield
    for index in indexes:
        connection.execute(index["indexdef"].replace(" ON ONLY ", " ON "))


def facts(event_id: int = HOT) -> EventFacts:
    now = utc_now()
    return EventFacts(
        id=event_id,
        title="A concert",
        description="",
        starts_at=now + timedelta(days=30),
        ends_at=now + timedelta(days=30, hours=3),
        timezone="UTC",
        location=Place(name="A hall"),
        capacity=100,
        category="music",
        tags=[],
        status="published",
        organizer=Organizer(id=ORGANIZER, name="Ada"),
        version=1,
        created_at=now,
        updated_at=now,
    )
