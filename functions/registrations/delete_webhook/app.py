from fastapi import Path

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.webhooks.service import Webhooks

function = HttpFunction(access=verified("events:update"), limit=WRITE)


@function.delete("/v1/webhooks/{webhook_id}", status_code=204)
async def delete_webhook(
    webhook_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    webhooks: Webhooks = function.provide(Webhooks),
) -> None:
    """Take a webhook away, with its log."""
    webhooks.delete(webhook_id, caller)


handler = function.handler
