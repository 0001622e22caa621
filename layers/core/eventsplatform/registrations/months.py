"""The months that registrations are stored by: each is a partition, made before its first day."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Protocol

from eventsplatform.clock import Clock
from eventsplatform.messaging.model import Work

# The month under way, and those after it.
MONTHS = 3


class MonthStore(Protocol):
    def has_month(self, first: date) -> bool: ...

    def add_month(self, first: date, following: date) -> None:
        """Room for registrations from the first day on, until the day before the following month's first."""


class Months:
    def __init__(self, work: Work[MonthStore], clock: Clock) -> None:
        self._work = work
        self._clock = clock

    def make_ahead(self) -> list[date]:
        """Make the months that are missing; those that were."""
        made = []
        for first in months_ahead(self._clock()):
            with self._work() as (store, _):
                if not store.has_month(first):
                    store.add_month(first, following_month(first))
                    made.append(first)
        return made


def months_ahead(now: datetime) -> list[date]:
    """The first days of the month under way, in UTC, and of those after it."""
    months = [now.date().replace(day=1)]
    while len(months) < MONTHS:
        months.append(following_month(months[-1]))
    return months


def following_month(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)
