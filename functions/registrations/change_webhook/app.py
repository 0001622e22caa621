from fastapi import Path

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.webhooks.model import Webhook, WebhookPatch
from eventsplatform.registrations.webhooks.service import Webhooks

function = HttpFunction(access=verified("events:update"), limit=WRITE)


@function.patch("/v1/webhooks/{webhook_id}", response_model=Webhook)
async def change_webhook(
    patch: WebhookPatch,
    webhook_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    webhooks: Webhooks = function.provide(Webhooks),
) -> Webhook:
    """Change a webhook with a JSON merge patch (RFC 7396), disable it, or enable it again."""
    return webhooks.change(webhook_id, patch, caller)


handler = function.handler
