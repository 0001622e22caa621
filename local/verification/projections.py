"""What is there: the services' tables, the copies that they keep of each other's data, the counters, the index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.model import KnownEvent
from eventsplatform.catalog.repository import PostgresCatalog
from local.verification.comparison import Row
from local.verification.event_store import normal_facts
from local.verification.source import PAGE, Query, Scope, Source

# The aggregates' own rows ------------------------------------------------------------------------------------------


def events(source: Source, scope: Scope) -> Iterator[Row]:
    catalog = PostgresCatalog(source.connection)
    if scope.event is None:
        pages: Iterable[list[KnownEvent]] = _pages(catalog)
    else:
        event = catalog.find_event(scope.event)
        pages = [[event]] if event is not None else []
    return (Row((event.id,), facts_of(event)) for page in pages for event in page)


def _pages(catalog: PostgresCatalog) -> Iterator[list[KnownEvent]]:
    after = 0
    while page := catalog.page_of_events(after, PAGE):
        yield page
        after = page[-1].id


USERS = Query("SELECT id, name, status = 'erased' AS erased, version FROM identity.users WHERE {id} ORDER BY id", "id")

REGISTRATIONS = Query(
    """
    SELECT id, event_id, user_id, status, registered_at, offer_expires_at, version
      FROM registrations.event_registrations
     WHERE {event}
     ORDER BY id
    """,
    "id",
)

# Who holds a place or one in line, who waits, who is offered one: what guards it, beside the registrations ---------

SHOULD_HOLD = Query(
    """
    SELECT id, event_id, user_id, registered_at
      FROM registrations.event_registrations
     WHERE {event} AND status <> 'cancelled'
     ORDER BY id
    """,
    "id",
)
HOLD = Query(
    """
    SELECT registration_id, event_id, user_id, registered_at
      FROM registrations.holders
     WHERE {event}
     ORDER BY registration_id
    """,
    "registration_id",
)
SHOULD_WAIT = Query(
    """
    SELECT id, event_id, ticket, registered_at
      FROM registrations.event_registrations
     WHERE {event} AND status = 'waitlisted'
     ORDER BY id
    """,
    "id",
)
WAIT = Query(
    """
    SELECT registration_id, event_id, ticket, registered_at
      FROM registrations.waitlist
     WHERE {event}
     ORDER BY registration_id
    """,
    "registration_id",
)
BLOCKS_OF_LINES = Query(
    """
    SELECT event_id, ticket / 512 AS block, count(*) AS people
      FROM registrations.waitlist
     WHERE {event}
     GROUP BY event_id, ticket / 512
     ORDER BY event_id, ticket / 512
    """,
    "event_id",
    "block",
)
COUNTED_BLOCKS = Query(
    """
    SELECT event_id, block, people
      FROM registrations.line_blocks
     WHERE {event}
     ORDER BY event_id, block
    """,
    "event_id",
    "block",
)
SHOULD_BE_OFFERED = Query(
    """
    SELECT id, event_id, offer_expires_at AS expires_at, registered_at
      FROM registrations.event_registrations
     WHERE {event} AND status = 'offered'
     ORDER BY id
    """,
    "id",
)
ARE_OFFERED = Query(
    """
    SELECT registration_id, event_id, expires_at, registered_at
      FROM registrations.offers
     WHERE {event}
     ORDER BY registration_id
    """,
    "registration_id",
)

# Who has come -------------------------------------------------------------------------------------------------------

CHECK_INS = Query(
    """
    SELECT registration_id, event_id, user_id, scan_id, checked_in_at, checked_in_by
      FROM registrations.check_ins
     WHERE {event} AND undone_at IS NULL
     ORDER BY registration_id
    """,
    "registration_id",
)

# Counters, each beside a recount -----------------------------------------------------------------------------------

RECOUNTED_PLACES = Query(
    """
    SELECT event_id, part, count(*) AS taken
      FROM registrations.event_registrations
     WHERE {event} AND part IS NOT NULL
     GROUP BY event_id, part
     ORDER BY event_id, part
    """,
    "event_id",
    "part",
)
PLACES = Query(
    """
    SELECT event_id, part, taken
      FROM registrations.places
     WHERE {event} AND taken <> 0
     ORDER BY event_id, part
    """,
    "event_id",
    "part",
)
RECOUNTED_LINES = Query(
    """
    SELECT event_id, count(*) AS waiting
      FROM registrations.event_registrations
     WHERE {event} AND status = 'waitlisted'
     GROUP BY event_id
     ORDER BY event_id
    """,
    "event_id",
)
LINES = Query(
    """
    SELECT event_id, sum(waiting) AS waiting
      FROM registrations.places
     WHERE {event}
     GROUP BY event_id
    HAVING sum(waiting) <> 0
     ORDER BY event_id
    """,
    "event_id",
)
RECOUNTED_DOORS = Query(
    """
    SELECT event_id, count(*) AS checked_in
      FROM registrations.event_registrations
     WHERE {event} AND status = 'checked_in'
     GROUP BY event_id
     ORDER BY event_id
    """,
    "event_id",
)
DOORS = Query(
    """
    SELECT event_id, checked_in
      FROM registrations.doors
     WHERE {event} AND checked_in <> 0
     ORDER BY event_id
    """,
    "event_id",
)
# As many as the event has left; none while anyone waits for them.
PLACES_TO_OPEN = Query(
    """
    SELECT event_id,
           CASE WHEN sum(waiting) > 0 THEN sum(taken) ELSE greatest(max(event.capacity), sum(taken)) END AS open
      FROM registrations.places
      JOIN registrations.events AS event USING (event_id)
     WHERE {event_id}
     GROUP BY event_id
     ORDER BY event_id
    """,
    "event_id",
)
OPEN_PLACES = Query(
    """
    SELECT event_id, sum(capacity) AS open
      FROM registrations.places
     WHERE {event_id}
     GROUP BY event_id
     ORDER BY event_id
    """,
    "event_id",
)
COUNTS_TO_TELL = Query(
    """
    SELECT event_id, part, taken AS registered, waiting AS waitlisted, version AS of_version
      FROM registrations.places
     WHERE {event_id}
     ORDER BY event_id, part
    """,
    "event_id",
    "part",
)
# Nothing is told of a part before anyone has taken from it.
TOLD_COUNTS = Query(
    """
    SELECT event_id, part, coalesce(registered, 0) AS registered, coalesce(waitlisted, 0) AS waitlisted,
           coalesce(told.version, 0) AS of_version
      FROM registrations.places
      FULL JOIN catalog.event_counts AS told USING (event_id, part)
     WHERE {event_id}
     ORDER BY event_id, part
    """,
    "event_id",
    "part",
)
RECOUNT = Query(
    """
    SELECT id, registered, waitlisted, greatest(0, capacity - registered) AS available,
           (SELECT coalesce(sum(version), 0)::bigint FROM registrations.places WHERE event_id = id) AS of_version
      FROM (SELECT event.id, capacity,
                   count(*) FILTER (WHERE counted.status IN ('active', 'offered', 'checked_in')) AS registered,
                   count(*) FILTER (WHERE counted.status = 'waitlisted') AS waitlisted
              FROM (SELECT id, capacity FROM catalog.events WHERE {id}) AS event
              LEFT JOIN registrations.event_registrations AS counted ON counted.event_id = event.id
             GROUP BY event.id, capacity) AS event
     ORDER BY id
    """,
    "id",
)
SHOWN_COUNTS = Query(
    """
    SELECT id, registered, waitlisted, greatest(0, capacity - registered) AS available, counts_version AS of_version
      FROM catalog.events
     WHERE {id}
     ORDER BY id
    """,
    "id",
)

# What services keep of each other's data ---------------------------------------------------------------------------

USERS_OF_CATALOG = Query(
    "SELECT id, name, erased, version, version AS of_version FROM catalog.users WHERE {id} ORDER BY id", "id"
)
ERASED_USERS_OF_REGISTRATIONS = Query(
    "SELECT id FROM (SELECT user_id AS id FROM registrations.erased_users) AS erased WHERE {id} ORDER BY id", "id"
)
_EVENTS_OF_REGISTRATIONS = Query(
    """
    SELECT event_id, version AS of_version, facts,
           jsonb_build_object('status', status, 'capacity', capacity, 'team', team, 'version', version) AS decisive
      FROM registrations.events
     WHERE {event_id}
     ORDER BY event_id
    """,
    "event_id",
)


def events_of_registrations(source: Source, scope: Scope) -> Iterator[Row]:
    """The facts as they were told, with those that registrations decides by as it decides by them."""
    for row in _EVENTS_OF_REGISTRATIONS(source, scope):
        yield Row(row.key, (row.fields["facts"] or {}) | row.fields["decisive"], row.version)


def documents(source: Source, scope: Scope) -> Iterator[Row]:
    for document in source.documents(scope):
        told: dict[str, Any] = document.get("source", {})
        yield Row((document["id"],), {**document, "source": _in_normal_form(told)}, told.get("version", 0))


def _in_normal_form(told: dict[str, Any]) -> dict[str, Any]:
    try:
        return normal_facts(told)
    except ValidationError:
        return told
