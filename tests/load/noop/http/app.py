"""A function as the platform's are made: validation, logs, metrics and headers around an endpoint that does nothing."""

from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction

function = HttpFunction(access=anyone(), limit=None)  # no engine runs beside it


@function.get("/http")
async def nothing() -> dict[str, str]:
    return {}


handler = function.handler
