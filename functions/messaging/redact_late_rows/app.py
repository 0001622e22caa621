from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.messaging.records import Records


@scheduled
def handler(_run: Run) -> dict[str, Any]:
    """Take erased people out of what was written by services that had not heard of the erasure yet."""
    return {"redacted": provide(Records).forget_late_rows()}
