"""A function as the platform's are made: validation, logs, metrics and headers around an endpoint that does nothing."""

from eventsplatform.entrypoints.http import HttpFunction

function = HttpFunction()


@function.get("/http")
async def nothing() -> dict[str, str]:
    return {}


handler = function.handler
