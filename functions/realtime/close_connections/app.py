from typing import Any

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.realtime.connections import Connections

STOP_BEFORE_MS = 5_000


@scheduled
def handler(run: Run) -> dict[str, Any]:
    """Close what identity names (`session_id`, or `user_id` and `generation`); every minute all that has ended."""
    connections = provide(Connections)
    if "session_id" in run.input:
        return {"closed": connections.close_session(run.input["session_id"])}
    if "user_id" in run.input:
        return {"closed": connections.close_user(run.input["user_id"], run.input["generation"])}
    return {"closed": connections.sweep(lambda: run.remaining_ms() > STOP_BEFORE_MS)}
