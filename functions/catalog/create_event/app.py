from fastapi import Response

from eventsplatform.catalog.model import Event, EventIn
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=verified("events:create"), limit=WRITE)


@function.post("/v1/events", status_code=201, response_model=Event)
async def create_event(
    event: EventIn,
    response: Response,
    caller: Caller = function.caller(),
    catalog: Catalog = function.provide(Catalog),
) -> Event:
    """Write a draft."""
    created = catalog.create(event, caller)
    response.headers["Location"] = f"/v1/events/{created.id}"
    response.headers["ETag"] = created.etag
    return created


handler = function.handler
