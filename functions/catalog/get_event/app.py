from fastapi import Path, Response

from eventsplatform.catalog.model import Event
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=anyone(), limit=READ)


@function.get("/v1/events/{event_id}", response_model=Event)
async def get_event(
    response: Response,
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller | None = function.optional_caller(),
    catalog: Catalog = function.provide(Catalog),
) -> Event:
    """Read an event; a draft only with its organiser's access token."""
    event = catalog.get(event_id, caller)
    response.headers["ETag"] = event.etag
    return event


handler = function.handler
