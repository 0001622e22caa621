from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.registrations.months import RegistrationMonths


@scheduled
def handler(_run: Run) -> dict[str, Any]:
    """Make room for the registrations of the months to come."""
    return {"made": [f"{first:%Y-%m}" for first in provide(RegistrationMonths).make_ahead()]}
