from fastapi import Path

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.webhooks.model import Webhook
from eventsplatform.registrations.webhooks.service import Webhooks

function = HttpFunction(access=verified("events:update"), limit=READ)


@function.get("/v1/webhooks/{webhook_id}", response_model=Webhook)
async def get_webhook(
    webhook_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    webhooks: Webhooks = function.provide(Webhooks),
) -> Webhook:
    """Read a webhook of one's own, and whether it works."""
    return webhooks.get(webhook_id, caller)


handler = function.handler
