import time
from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.messaging.bridge_from_nats import BridgeFromNats

# Before the function's own time-out: the last batch may take a delivery time-out.
STOP_BEFORE_MS = 12_000


@scheduled
def handler(run: Run) -> dict[str, Any]:
    """Bring what comes in over NATS to Kafka for `for_seconds`; the next run carries on."""
    ends_at = time.monotonic() + run.input["for_seconds"]

    def has_time() -> bool:
        return time.monotonic() < ends_at and run.remaining_ms() > STOP_BEFORE_MS

    return {"crossed": provide(BridgeFromNats).run(has_time)}
