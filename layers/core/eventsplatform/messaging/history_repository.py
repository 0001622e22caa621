"""The SQL of an event's past."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from eventsplatform.adapters.postgres import Database, Row
from eventsplatform.messaging.history import RecordedChange

# The highest number that a version can have.
_BEHIND_ALL = 2**31 - 1

_CHANGES = """
    SELECT version, type, occurred_at, actor_id, payload
      FROM messaging.outbox
     WHERE aggregate_type = 'event' AND aggregate_id = %(event_id)s
"""

# A change bears the time at which its transaction began: one that waited for another's lock is of a later version and
# of an earlier time. What counts is the order of the versions.
_UNTIL = """
       AND version < coalesce((SELECT min(version)
                                 FROM messaging.outbox
                                WHERE aggregate_type = 'event' AND aggregate_id = %(event_id)s
                                  AND occurred_at > %(moment)s), %(behind_all)s)
     ORDER BY version DESC
     LIMIT 1
"""


class PostgresHistory:
    """Each method is one statement and so one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def changes_before(self, event_id: int, version: int | None, limit: int) -> list[RecordedChange]:
        rows = self._database.fetch_all(
            _CHANGES + " AND version < %(version)s ORDER BY version DESC LIMIT %(limit)s",
            {"event_id": event_id, "version": version or _BEHIND_ALL, "limit": limit},
        )
        return [RecordedChange(**row) for row in rows]

    def last_until(self, event_id: int, moment: datetime) -> RecordedChange | None:
        values = {"event_id": event_id, "moment": moment, "behind_all": _BEHIND_ALL}
        return _change(self._database.fetch_one(_CHANGES + _UNTIL, values))

    def first_of(self, event_id: int) -> RecordedChange | None:
        return _change(self._database.fetch_one(_CHANGES + " ORDER BY version LIMIT 1", {"event_id": event_id}))

    def counts_at(self, event_id: int, moment: datetime) -> Mapping[str, int]:
        row = self._database.fetch_one(
            """
            SELECT count(*) FILTER (WHERE status IN ('active', 'offered', 'checked_in')) AS registered,
                   count(*) FILTER (WHERE status = 'waitlisted') AS waitlisted
              FROM (SELECT DISTINCT ON (aggregate_id) payload ->> 'status' AS status
                      FROM messaging.outbox
                     WHERE aggregate_type = 'registration' AND partition_key = %s AND occurred_at <= %s
                     ORDER BY aggregate_id, version DESC) AS registrations
            """,
            (str(event_id), moment),
        )
        assert row is not None
        return row


def _change(row: Row | None) -> RecordedChange | None:
    return RecordedChange(**row) if row else None
