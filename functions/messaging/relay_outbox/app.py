from typing import Any

from eventsplatform.config import OutboxSettings
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.messaging.relay import Relay


@scheduled
def handler(run: Run) -> dict[str, Any]:
    """Relay the shards a commit has touched, or all of them on the minute."""
    shards = run.input.get("shards") or range(OutboxSettings.from_environment().shards)
    return {"relayed": provide(Relay).drain_all(shards, run.remaining_ms)}
