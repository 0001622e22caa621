from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.pagination import Page
from eventsplatform.registrations.webhooks.model import Webhook
from eventsplatform.registrations.webhooks.service import Webhooks

function = HttpFunction(access=verified("events:update"), limit=READ)


@function.get("/v1/webhooks", response_model=Page[Webhook])
async def list_webhooks(
    caller: Caller = function.caller(),
    webhooks: Webhooks = function.provide(Webhooks),
) -> Page[Webhook]:
    """One's own webhooks, the oldest first: there are at most ten."""
    return webhooks.own(caller)


handler = function.handler
