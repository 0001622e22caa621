"""The months that a table is stored by: each is a partition, made before its first day.

Rows of a month that has no partition are refused, and with them whatever was to be written: so months are made long
before, and `/health` and an alarm say when the next one is missing.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Protocol

from eventsplatform.clock import Clock

# The month under way, and those after it.
MONTHS = 3


class MonthStore(Protocol):
    def has_month(self, first: date) -> bool: ...

    def add_month(self, first: date, following: date) -> None:
        """Room for rows from the first day on, until the day before the following month's first."""

    def report_ahead(self, months: int) -> None:
        """Tell those who watch for how many months after the one under way there is room."""


class Months:
    """The months of one table. Whoever has one gives it a class of its own, by which functions ask for it."""

    def __init__(self, store: MonthStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def make_ahead(self) -> list[date]:
        """Make the months that are missing; those that were."""
        months = months_ahead(self._clock())
        missing = [first for first in months if not self._store.has_month(first)]
        for first in missing:
            self._store.add_month(first, following_month(first))
        self._store.report_ahead(len(months) - 1)
        return missing


def months_ahead(now: datetime) -> list[date]:
    """The first days of the month under way, in UTC, and of those after it."""
    months = [now.date().replace(day=1)]
    while len(months) < MONTHS:
        months.append(following_month(months[-1]))
    return months


def following_month(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)
