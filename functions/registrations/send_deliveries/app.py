from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.registrations.webhooks.notices import OwnerNotices
from eventsplatform.registrations.webhooks.sender import Sender
from eventsplatform.registrations.webhooks.upkeep import WebhookUpkeep


@scheduled
def handler(run: Run) -> dict[str, Any]:
    """Send what is due to webhooks, when there is something new and each minute; then also tell owners and clear up."""
    sent = provide(Sender).run(run.remaining_ms)
    if run.input.get("poked"):
        return {"sent": sent}
    return {"sent": sent, "told": provide(OwnerNotices).send(), **provide(WebhookUpkeep).run()}
