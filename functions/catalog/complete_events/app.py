from typing import Any

from eventsplatform.catalog.service import COMPLETED_AT_ONCE, Catalog
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled

# A batch takes well under a second; the next run carries on with what is left.
STOP_BEFORE_MS = 10_000


@scheduled
def handler(run: Run) -> dict[str, Any]:
    """Complete published events that are over, a batch per transaction."""
    completed = 0
    while run.remaining_ms() > STOP_BEFORE_MS:
        batch = provide(Catalog).complete_ended()
        completed += batch
        if batch < COMPLETED_AT_ONCE:
            break
    return {"completed": completed}
