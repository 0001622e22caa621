"""Tickets and check-ins, connected to Postgres, to Secrets Manager and to the rest of registrations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.adapters.aws import FunctionClient, SecretStore
from eventsplatform.adapters.postgres import database
from eventsplatform.adapters.secret_versions import SecretsManagerVersions
from eventsplatform.clock import utc_now
from eventsplatform.config import TicketSettings
from eventsplatform.messaging.outbox import unit_of_work
from eventsplatform.registrations import wiring as registrations_wiring
from eventsplatform.registrations.admission.check_ins import CheckIns
from eventsplatform.registrations.admission.repository import PostgresAdmission
from eventsplatform.registrations.admission.rotation import TicketKeyRotation
from eventsplatform.registrations.admission.tickets import Tickets
from eventsplatform.registrations.service import Registrations


def _tickets() -> Tickets:
    secret, store = TicketSettings.from_environment().keys_secret, SecretStore()
    return Tickets(
        unit_of_work(database(), PostgresAdmission),
        lambda: store.get_json(secret),
        lambda: store.get_json_anew(secret),
        registrations_wiring.FACTORIES[Registrations]().facts_of,
        utc_now,
    )


def _check_ins() -> CheckIns:
    directory = registrations_wiring.CatalogFunctions(FunctionClient())
    registrations: Registrations = registrations_wiring.FACTORIES[Registrations]()

    def learn(event_id: int) -> None:
        registrations.learn_events([directory.describe(event_id)])

    return CheckIns(unit_of_work(database(), PostgresAdmission), learn, utc_now)


def _rotation() -> TicketKeyRotation:
    return TicketKeyRotation(SecretsManagerVersions(), unit_of_work(database(), PostgresAdmission))


FACTORIES: dict[type, Callable[[], Any]] = {
    CheckIns: _check_ins,
    TicketKeyRotation: _rotation,
    Tickets: _tickets,
}
