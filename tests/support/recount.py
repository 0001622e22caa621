"""Whether an event's registrations add up, recounted from the rows by SQL of the tests' own."""

from __future__ import annotations

from tests.support.database import administrator

# Each names a rule and finds its violations; `event` is the number of the event, `capacity` its capacity.
RULES = {
    "more places are taken than there are": """
        SELECT FROM registrations.event_registrations
         WHERE event_id = %(event)s AND status IN ('active', 'offered', 'checked_in')
        HAVING count(*) > %(capacity)s
    """,
    "places are free while people wait": """
        SELECT FROM registrations.event_registrations
         WHERE event_id = %(event)s
        HAVING count(*) FILTER (WHERE status = 'waitlisted') > 0
           AND count(*) FILTER (WHERE status IN ('active', 'offered', 'checked_in')) < %(capacity)s
    """,
    "someone has two registrations": """
        SELECT FROM registrations.event_registrations
         WHERE event_id = %(event)s AND status <> 'cancelled'
         GROUP BY user_id
        HAVING count(*) > 1
    """,
    "the guard is not who is registered": """
        (SELECT user_id, id FROM registrations.event_registrations WHERE event_id = %(event)s AND status <> 'cancelled'
         EXCEPT SELECT user_id, registration_id FROM registrations.holders WHERE event_id = %(event)s)
        UNION ALL
        (SELECT user_id, registration_id FROM registrations.holders WHERE event_id = %(event)s
         EXCEPT SELECT user_id, id FROM registrations.event_registrations
                 WHERE event_id = %(event)s AND status <> 'cancelled')
    """,
    "the parts do not count what is taken": """
        SELECT FROM registrations.places AS place
         WHERE event_id = %(event)s
           AND taken <> (SELECT count(*) FROM registrations.event_registrations AS registration
                          WHERE registration.event_id = %(event)s AND registration.part = place.part)
    """,
    "the line does not count who waits": """
        SELECT FROM registrations.places
         WHERE event_id = %(event)s
        HAVING sum(waiting) <> (SELECT count(*) FROM registrations.event_registrations
                                 WHERE event_id = %(event)s AND status = 'waitlisted')
    """,
    "the line is not who waits": """
        SELECT FROM registrations.event_registrations AS registration
          FULL JOIN (SELECT * FROM registrations.waitlist WHERE event_id = %(event)s) AS entry
               ON entry.registration_id = registration.id
         WHERE (registration.event_id = %(event)s AND status = 'waitlisted' AND entry.ticket IS NULL)
            OR (entry.ticket IS NOT NULL AND (status <> 'waitlisted' OR registration.ticket <> entry.ticket))
    """,
    "the blocks of the line do not count who waits": """
        SELECT FROM registrations.line_blocks AS block
          FULL JOIN (SELECT ticket / 512 AS block, count(*) AS people
                       FROM registrations.waitlist
                      WHERE event_id = %(event)s
                      GROUP BY ticket / 512) AS counted
               ON block.event_id = %(event)s AND block.block = counted.block
         WHERE (block.event_id = %(event)s OR block.event_id IS NULL) AND block.people IS DISTINCT FROM counted.people
    """,
    "the offers are not who is offered": """
        SELECT FROM registrations.event_registrations AS registration
          FULL JOIN (SELECT * FROM registrations.offers WHERE event_id = %(event)s) AS offer
               ON offer.registration_id = registration.id
         WHERE (registration.event_id = %(event)s AND status = 'offered' AND offer.registration_id IS NULL)
            OR (offer.registration_id IS NOT NULL AND status <> 'offered')
    """,
    "someone was offered a place before one who waited longer": """
        SELECT FROM messaging.outbox AS later
          JOIN registrations.event_registrations AS offered ON offered.id = later.aggregate_id
          JOIN registrations.event_registrations AS waiting ON waiting.event_id = offered.event_id
         WHERE later.type = 'registrations.offered' AND offered.event_id = %(event)s
           AND waiting.status = 'waitlisted' AND waiting.ticket < offered.ticket
    """,
    "offers were not made in the order of the line": """
        SELECT FROM (SELECT ticket, lag(ticket) OVER (ORDER BY outbox.id) AS before
                       FROM messaging.outbox
                       JOIN registrations.event_registrations AS offered ON offered.id = outbox.aggregate_id
                      WHERE outbox.type = 'registrations.offered' AND offered.event_id = %(event)s) AS offers
         WHERE ticket < before
    """,
    "a change was not told, or told twice": """
        SELECT FROM registrations.event_registrations AS registration
         WHERE event_id = %(event)s
           AND version <> (SELECT count(*) FROM messaging.outbox
                            WHERE aggregate_type = 'registration' AND aggregate_id = registration.id)
    """,
    "who has come is not who is checked in": """
        SELECT FROM (SELECT * FROM registrations.event_registrations
                      WHERE event_id = %(event)s AND status = 'checked_in') AS registration
          FULL JOIN (SELECT * FROM registrations.check_ins WHERE event_id = %(event)s AND undone_at IS NULL) AS check_in
               ON check_in.registration_id = registration.id AND check_in.user_id = registration.user_id
         WHERE registration.id IS NULL OR check_in.id IS NULL
    """,
    "the door does not count who has come": """
        SELECT WHERE (SELECT coalesce(max(checked_in), 0) FROM registrations.doors WHERE event_id = %(event)s)
                  <> (SELECT count(*) FROM registrations.event_registrations
                       WHERE event_id = %(event)s AND status = 'checked_in')
    """,
    "the door has told two things under one number, or one under a number to come": """
        SELECT FROM (SELECT number FROM registrations.check_ins WHERE event_id = %(event)s
                     UNION ALL
                     SELECT number FROM registrations.revoked_tickets WHERE event_id = %(event)s) AS told
        HAVING count(*) <> count(DISTINCT number)
            OR max(number) > (SELECT max(number) FROM registrations.doors WHERE event_id = %(event)s)
    """,
    "a ticket that was given out is good though its registration is cancelled": """
        SELECT FROM registrations.event_registrations AS registration
         WHERE event_id = %(event)s AND status = 'cancelled'
           AND EXISTS (SELECT FROM messaging.outbox
                        WHERE aggregate_type = 'registration' AND aggregate_id = registration.id
                          AND type = 'registrations.created')
           AND NOT EXISTS (SELECT FROM registrations.revoked_tickets WHERE registration_id = registration.id)
    """,
}


def violations(url: str, event_id: int, capacity: int) -> list[str]:
    """The rules that are broken. No one may be changing anything meanwhile."""
    with administrator(url) as connection:
        values = {"event": event_id, "capacity": capacity}
        return [rule for rule, query in RULES.items() if connection.execute(query, values).fetchone() is not None]


def taken_places(url: str, event_id: int) -> int:
    """Held by registrations and by offers."""
    with administrator(url) as connection:
        row = connection.execute(
            """
            SELECT count(*) AS taken FROM registrations.event_registrations
             WHERE event_id = %s AND status IN ('active', 'offered', 'checked_in')
            """,
            (event_id,),
        ).fetchone()
    assert row is not None
    return int(row["taken"])
