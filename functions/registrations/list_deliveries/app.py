from typing import Annotated

from fastapi import Path, Query

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.pagination import Page
from eventsplatform.registrations.webhooks.deliveries import DeliveryLog
from eventsplatform.registrations.webhooks.model import Delivery, DeliveryQuery

function = HttpFunction(access=verified("events:update"), limit=READ)


@function.get("/v1/webhooks/{webhook_id}/deliveries", response_model=Page[Delivery])
async def list_deliveries(
    query: Annotated[DeliveryQuery, Query()],
    webhook_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    log: DeliveryLog = function.provide(DeliveryLog),
) -> Page[Delivery]:
    """What a webhook has been sent in the last 30 days, and what came of it, the latest first."""
    return log.page(webhook_id, query, caller)


handler = function.handler
