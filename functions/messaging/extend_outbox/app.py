from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.messaging.months import OutboxMonths


@scheduled
def handler(_run: Run) -> dict[str, Any]:
    """Make room for the changes of the months to come."""
    return {"made": [f"{first:%Y-%m}" for first in provide(OutboxMonths).make_ahead()]}
