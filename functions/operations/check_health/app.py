from fastapi import Response

from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.operations.health import Health, HealthReport

function = HttpFunction(access=anyone(), limit=None)


@function.get("/health", response_model=HealthReport, response_model_exclude_none=True)
async def check_health(response: Response, health: Health = function.provide(Health)) -> HealthReport:
    """Whether the platform and each of its engines answer: 200 while it can serve, 503 when it can't."""
    report = health.check()
    if report.status == "unhealthy":
        response.status_code = 503
    return report


handler = function.handler
