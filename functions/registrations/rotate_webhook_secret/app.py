from fastapi import Path

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import DELIVERY
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.webhooks.model import IssuedSecret
from eventsplatform.registrations.webhooks.service import Webhooks

function = HttpFunction(access=verified("events:update"), limit=DELIVERY)


@function.post("/v1/webhooks/{webhook_id}/secret", response_model=IssuedSecret)
async def rotate_webhook_secret(
    webhook_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    webhooks: Webhooks = function.provide(Webhooks),
) -> IssuedSecret:
    """Replace the secret. For a day everything is signed with both, so that the receiver can change over meanwhile."""
    return webhooks.rotate_secret(webhook_id, caller)


handler = function.handler
