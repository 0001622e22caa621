"""Webhooks, connected to Postgres, Secrets Manager, the catalog and the receivers."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from eventsplatform.adapters.aws import FunctionClient, SecretStore
from eventsplatform.adapters.postgres import database
from eventsplatform.adapters.sealing import Sealing
from eventsplatform.clock import utc_now
from eventsplatform.config import read_setting
from eventsplatform.messaging.outbox import UnitOfWork, unit_of_work
from eventsplatform.observability import emit_metric, logger
from eventsplatform.registrations.model import EventFacts
from eventsplatform.registrations.webhooks.deliveries import DeliveryLog, DeliveryQueue
from eventsplatform.registrations.webhooks.model import DisabledReason
from eventsplatform.registrations.webhooks.notices import OwnerNotices
from eventsplatform.registrations.webhooks.owners import WebhookOwners
from eventsplatform.registrations.webhooks.repository import PostgresWebhooks
from eventsplatform.registrations.webhooks.sender import Outcome, Sender
from eventsplatform.registrations.webhooks.service import Webhooks
from eventsplatform.registrations.webhooks.upkeep import WebhookUpkeep


class SenderFunction:
    """Wakes the sender after a commit. A lost poke costs latency only: it looks each minute."""

    def __init__(self, functions: FunctionClient) -> None:
        self._functions = functions

    def __call__(self) -> None:
        try:
            self._functions.invoke_async(read_setting("SEND_DELIVERIES_FUNCTION", str), {"poked": True})
        except Exception:
            logger.warning("the sender could not be poked; its sweep will find the deliveries", exc_info=True)


class Metrics:
    """What the sender reports, as metrics; which webhook it was is in the log, for there are too many for a metric."""

    def attempted(self, outcome: Outcome, latency: timedelta) -> None:
        emit_metric("webhook_deliveries_total", 1, status=outcome.counted_as)
        if outcome.status == "delivered":
            emit_metric("webhook_delivery_latency_seconds", latency.total_seconds(), unit=MetricUnit.Seconds)

    def disabled(self, webhook_id: int, reason: DisabledReason) -> None:
        emit_metric("webhooks_disabled_total", 1, reason=reason)
        logger.warning("a webhook is disabled", extra={"webhook_id": webhook_id, "reason": reason})


def _work() -> UnitOfWork[PostgresWebhooks]:
    return unit_of_work(database(), PostgresWebhooks)


def _sealing() -> Sealing:
    """Functions that neither seal nor open anything are not told of the keys."""
    store = SecretStore()

    def name() -> str:
        return read_setting("WEBHOOK_KEYS_SECRET", str)

    return Sealing(lambda: store.get_json(name()), lambda: store.get_json_anew(name()))


def _webhooks() -> Webhooks:
    from eventsplatform.adapters.outbound import outbound
    from eventsplatform.registrations import wiring
    from eventsplatform.registrations.service import Registrations

    registrations: Registrations = wiring.FACTORIES[Registrations]()

    def describe_event(event_id: int) -> EventFacts:
        return registrations.facts_of([event_id])[event_id]

    return Webhooks(_work(), describe_event, outbound().refuse_private, _sealing(), utc_now)


def _log() -> DeliveryLog:
    return DeliveryLog(_work(), SenderFunction(FunctionClient()), utc_now)


def _queue() -> DeliveryQueue:
    return DeliveryQueue(_work(), SenderFunction(FunctionClient()), utc_now)


def _sender() -> Sender:
    from eventsplatform.adapters.outbound import outbound

    return Sender(_work(), outbound().post, _sealing(), Metrics(), utc_now, random.random)


def _owners() -> WebhookOwners:
    return WebhookOwners(_work())


def _notices() -> OwnerNotices:
    from eventsplatform.adapters.mail import mailer
    from eventsplatform.registrations.wiring import PeopleFunctions

    return OwnerNotices(_work(), PeopleFunctions(FunctionClient()), mailer().send)


def _upkeep() -> WebhookUpkeep:
    return WebhookUpkeep(_work(), _sealing(), utc_now)


FACTORIES: dict[type, Callable[[], Any]] = {
    Webhooks: _webhooks,
    DeliveryLog: _log,
    DeliveryQueue: _queue,
    Sender: _sender,
    OwnerNotices: _notices,
    WebhookOwners: _owners,
    WebhookUpkeep: _upkeep,
}
