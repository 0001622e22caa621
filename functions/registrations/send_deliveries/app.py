from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.registrations.webhooks.sender import Sender
from eventsplatform.registrations.webhooks.upkeep import WebhookUpkeep


@scheduled
def handler(run: Run) -> dict[str, Any]:
    """Send what is due to webhooks, whenever there is something new and each minute; then also clear up."""
    sent = provide(Sender).run(run.remaining_ms)
    return {"sent": sent} if run.input.get("poked") else {"sent": sent, **provide(WebhookUpkeep).run()}
