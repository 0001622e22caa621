"""The months that the outbox is stored by."""

from __future__ import annotations

from eventsplatform.months import Months


class OutboxMonths(Months):
    """A change belongs to the month in which its transaction began."""
