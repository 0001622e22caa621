"""Everything that this schema holds about a person."""

from __future__ import annotations

from eventsplatform.registrations.calendar_feeds_repository import PostgresCalendarFeeds
from eventsplatform.registrations.mails_repository import PostgresMails
from eventsplatform.registrations.repository import PostgresRegistrations


class PostgresAttendees(PostgresRegistrations, PostgresMails, PostgresCalendarFeeds):
    """The store of registrations, of the mails about them, and of the calendars that they stand in."""
