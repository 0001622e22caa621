from typing import Any

from eventsplatform.config import OutboxSettings
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.messaging.backlog import BacklogReport
from eventsplatform.messaging.relay import Relay


@scheduled
def handler(run: Run) -> dict[str, Any]:
    """Relay what commits have added to the outbox; on the minute, tell first how much waits there."""
    shards = range(OutboxSettings.from_environment().shards)
    if "poked" not in run.input:
        provide(BacklogReport).make(shards)
    return {"relayed": provide(Relay).run(shards, run.remaining_ms)}
