from fastapi import Path

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import DELIVERY
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.webhooks.deliveries import DeliveryLog
from eventsplatform.registrations.webhooks.model import DeliveryRequest, RequestedDeliveries

function = HttpFunction(access=verified("events:update"), limit=DELIVERY)


@function.post("/v1/webhooks/{webhook_id}/deliveries", status_code=202, response_model=RequestedDeliveries)
async def request_deliveries(
    request: DeliveryRequest,
    webhook_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    log: DeliveryLog = function.provide(DeliveryLog),
) -> RequestedDeliveries:
    """Have a webhook sent a test, or deliveries again: some of them, or all of a status and a stretch of time.

    What is sent again has the id that it had, so that a receiver can tell whether it has seen it.
    """
    return log.request(webhook_id, request, caller)


handler = function.handler
