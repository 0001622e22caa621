"""The SQL of exports."""

from __future__ import annotations

from eventsplatform.adapters.postgres import Connection
from eventsplatform.registrations.exports import ExportedRegistration, Position


class PostgresExports:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def export_chunk(self, event_id: int, after: Position, limit: int) -> list[ExportedRegistration]:
        # Only those of the line who are in the chunk are counted, from the position of its first.
        rows = self._connection.execute(
            """
            WITH chunk AS (
                SELECT *
                  FROM registrations.event_registrations
                 WHERE event_id = %(event_id)s AND registered_at BETWEEN %(moment)s AND %(until)s
                   AND (registered_at, id) > (%(moment)s, %(id)s)
                 ORDER BY registered_at, id
                 LIMIT %(limit)s
            ), waiting AS MATERIALIZED (
                SELECT first, last, registrations.position_in_line(%(event_id)s, first) AS position
                  FROM (SELECT min(ticket) AS first, max(ticket) AS last FROM chunk WHERE status = 'waitlisted') AS ends
            ), line AS (
                SELECT ticket, waiting.position - 1 + row_number() OVER (ORDER BY ticket) AS position
                  FROM waiting
                  JOIN registrations.waitlist ON event_id = %(event_id)s AND ticket BETWEEN first AND last
            )
            SELECT chunk.id, chunk.event_id, chunk.user_id, chunk.status, line.position, chunk.registered_at,
                   chunk.offer_expires_at, check_in.checked_in_at, check_in.checked_in_by
              FROM chunk
              LEFT JOIN line USING (ticket)
              LEFT JOIN registrations.check_ins AS check_in
                ON check_in.registration_id = chunk.id AND check_in.undone_at IS NULL
             ORDER BY chunk.registered_at, chunk.id
            """,
            {
                "event_id": event_id,
                "moment": after.registered_at,
                "id": after.id,
                "until": after.until,
                "limit": limit,
            },
        ).fetchall()
        return [ExportedRegistration.model_validate(row) for row in rows]
