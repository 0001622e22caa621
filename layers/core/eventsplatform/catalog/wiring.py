"""The catalog, connected to Postgres, to identity and to registrations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.adapters.aws import FunctionCallError, FunctionClient
from eventsplatform.adapters.postgres import database
from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.model import CapacityAnswer, KnownEvent
from eventsplatform.catalog.organizers import Organizers
from eventsplatform.catalog.repository import PostgresCatalog
from eventsplatform.catalog.service import Catalog
from eventsplatform.catalog.teams import Teams
from eventsplatform.clock import utc_now
from eventsplatform.config import read_setting
from eventsplatform.errors import NotFoundError
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

    def accept_capacity(self, event: KnownEvent, capacity: int) -> CapacityAnswer:
        answer = self._functions.invoke(
            read_setting("ACCEPT_CAPACITY_FUNCTION", str), {"event": facts_of(event), "capacity": capacity}
        )
        return CapacityAnswer.model_validate(answer)


def _catalog() -> Catalog:
    functions = FunctionClient()
    return Catalog(
        unit_of_work(database(), PostgresCatalog),
        IdentityFunctions(functions),
        RegistrationsFunctions(functions),
        utc_now,
    )


def _teams() -> Teams:
    return Teams(unit_of_work(database(), PostgresCatalog), IdentityFunctions(FunctionClient()))


def _organizers() -> Organizers:
    return Organizers(unit_of_work(database(), PostgresCatalog), utc_now)


FACTORIES: dict[type, Callable[[], Any]] = {Catalog: _catalog, Organizers: _organizers, Teams: _teams}
