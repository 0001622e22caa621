"""Registrations, connected to Postgres and to the catalog."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from eventsplatform.adapters.aws import FunctionCallError, FunctionClient
from eventsplatform.adapters.partitions import MonthlyTable, PostgresMonths
from eventsplatform.adapters.postgres import database
from eventsplatform.clock import utc_now
from eventsplatform.config import read_setting
from eventsplatform.errors import NotFoundError
from eventsplatform.messaging.outbox import unit_of_work
from eventsplatform.registrations.attendees import Attendees
from eventsplatform.registrations.lifecycle import OFFER_LIFETIME
from eventsplatform.registrations.model import EventFacts
from eventsplatform.registrations.months import RegistrationMonths
from eventsplatform.registrations.repository import PostgresRegistrations
from eventsplatform.registrations.service import Registrations

REGISTRATIONS = MonthlyTable("registrations", "event_registrations")


class CatalogFunctions:
    """The catalog's own function, invoked directly."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def describe(self, event_id: int) -> EventFacts:
        try:
            event = self._functions.invoke(read_setting("DESCRIBE_EVENT_FUNCTION", str), {"event_id": event_id})
        except FunctionCallError as error:
            if error.error_type == NotFoundError.__name__:
                raise NotFoundError(f"There is no event {event_id}.") from error
            raise
        return EventFacts.of_event(event)


def _registrations() -> Registrations:
    work = unit_of_work(database(), PostgresRegistrations)
    return Registrations(work, CatalogFunctions(FunctionClient()), utc_now, _offer_lifetime())


def _attendees() -> Attendees:
    return Attendees(unit_of_work(database(), PostgresRegistrations), utc_now, _offer_lifetime())


def _months() -> RegistrationMonths:
    return RegistrationMonths(PostgresMonths(database(), REGISTRATIONS), utc_now)


def _offer_lifetime() -> timedelta:
    return timedelta(hours=read_setting("OFFER_HOURS", float, default=OFFER_LIFETIME / timedelta(hours=1)))


FACTORIES: dict[type, Callable[[], Any]] = {
    Registrations: _registrations,
    Attendees: _attendees,
    RegistrationMonths: _months,
}
