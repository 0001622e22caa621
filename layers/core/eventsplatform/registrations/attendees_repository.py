"""Everything that this schema holds about a person."""

from __future__ import annotations

from eventsplatform.registrations.mails_repository import PostgresMails
from eventsplatform.registrations.repository import PostgresRegistrations


class PostgresAttendees(PostgresRegistrations, PostgresMails):
    """The store of registrations, and that of the mails about them."""
