"""The catalog, connected to Postgres, to identity and to registrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from eventsplatform.adapters.aws import FunctionCallError, FunctionClient
from eventsplatform.adapters.postgres import database
from eventsplatform.catalog.history import EventHistory
from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.model import CapacityAnswer, KnownEvent
from eventsplatform.catalog.organizers import Organizers
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.catalog.series import EventSeries
from eventsplatform.catalog.service import Catalog
from eventsplatform.catalog.teams import Teams
from eventsplatform.clock import utc_now
from eventsplatform.config import read_setting
from eventsplatform.errors import NotFoundError
from eventsplatform.messaging.history import RecordedChange, RecordedHistory
from eventsplatform.messaging.outbox import unit_of_work


class IdentityFunctions:
    """Identity's own function, invoked directly."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def describe(self, user_id: int) -> tuple[str, int]:
        try:
            user = self._functions.invoke(read_setting("DESCRIBE_USER_FUNCTION", str), {"user_id": user_id})
        except FunctionCallError as error:
            if error.error_type == NotFoundError.__name__:
                raise NotFoundError(f"There is no user {user_id}.") from error
            raise
        return user["name"], user["version"]


class RegistrationsFunctions:
    """Registrations' own function, invoked directly."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def accept_capacity(self, events: Sequence[KnownEvent], capacity: int) -> dict[int, CapacityAnswer]:
        question = {"events": [facts_of(event) for event in events], "capacity": capacity}
        answer = self._functions.invoke(read_setting("ACCEPT_CAPACITY_FUNCTION", str), question)
        return {int(event_id): CapacityAnswer.model_validate(each) for event_id, each in answer["answers"].items()}


class MessagingFunctions:
    """Messaging's own function, invoked directly."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def changes(self, event_id: int, before: int | None, limit: int) -> list[RecordedChange]:
        return self._ask({"event_id": event_id, "before": before, "limit": limit}).changes

    def at(self, event_id: int, moment: datetime) -> RecordedHistory:
        return self._ask({"event_id": event_id, "as_of": moment.isoformat()})

    def _ask(self, question: dict[str, Any]) -> RecordedHistory:
        answer = self._functions.invoke(read_setting("READ_OUTBOX_FUNCTION", str), question)
        return RecordedHistory.model_validate(answer)


def _catalog() -> Catalog:
    functions = FunctionClient()
    return Catalog(
        unit_of_work(database(), PostgresCatalog),
        IdentityFunctions(functions),
        RegistrationsFunctions(functions),
        utc_now,
    )


def _series() -> EventSeries:
    return EventSeries(unit_of_work(database(), PostgresCatalog), utc_now)


def _teams() -> Teams:
    return Teams(unit_of_work(database(), PostgresCatalog), IdentityFunctions(FunctionClient()), utc_now)


def _history() -> EventHistory:
    return EventHistory(unit_of_work(database(), PostgresCatalog), MessagingFunctions(FunctionClient()))


def _organizers() -> Organizers:
    return Organizers(unit_of_work(database(), PostgresCatalog), utc_now)


FACTORIES: dict[type, Callable[[], Any]] = {
    Catalog: _catalog,
    EventHistory: _history,
    EventSeries: _series,
    Organizers: _organizers,
    Teams: _teams,
}
