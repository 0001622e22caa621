"""Publishing the events of an iCalendar file (RFC 5545) through the platform's API.

`read_calendar` turns a file into events without touching anything; `Publisher` sends them.
"""

from local.import_ics.calendar_file import CalendarFileError
from local.import_ics.entries import Entry, Reading, Refusal, read_calendar
from local.import_ics.publisher import ApiUnavailableError, NotPublishedError, Publisher, SignInError

__all__ = [
    "ApiUnavailableError",
    "CalendarFileError",
    "Entry",
    "NotPublishedError",
    "Publisher",
    "Reading",
    "Refusal",
    "SignInError",
    "read_calendar",
]
