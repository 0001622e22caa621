"""The months that registrations are stored by."""

from __future__ import annotations

from eventsplatform.months import Months


class RegistrationMonths(Months):
    """Registrations belong to the month in which they were made."""
