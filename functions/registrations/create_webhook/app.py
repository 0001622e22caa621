from fastapi import Response

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import DELIVERY
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.webhooks.model import NewWebhook, WebhookIn
from eventsplatform.registrations.webhooks.service import Webhooks

function = HttpFunction(access=verified("events:update"), limit=DELIVERY)


@function.post("/v1/webhooks", status_code=201, response_model=NewWebhook)
async def create_webhook(
    webhook: WebhookIn,
    response: Response,
    caller: Caller = function.caller(),
    webhooks: Webhooks = function.provide(Webhooks),
) -> NewWebhook:
    """Be told at a URL what happens to the events that one organises. The secret is told this once."""
    created = webhooks.create(webhook, caller)
    response.headers["Location"] = f"/v1/webhooks/{created.id}"
    return created


handler = function.handler
