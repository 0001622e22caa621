from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.registrations.service import Registrations


@scheduled
def handler(_run: Run) -> dict[str, Any]:
    """Offer the places of offers that have expired to the next in line."""
    return {"events": provide(Registrations).expire_offers()}
