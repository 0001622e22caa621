from fastapi import Path, Response

from eventsplatform.catalog.model import Event
from eventsplatform.catalog.occurrences import Scope
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=verified("events:update"), limit=WRITE)


@function.post("/v1/events/{event_id}/publish", response_model=Event)
async def publish_event(
    response: Response,
    event_id: int = Path(ge=1, le=2**63 - 1),
    scope: Scope = "this",
    caller: Caller = function.caller(),
    catalog: Catalog = function.provide(Catalog),
) -> Event:
    """Open a draft to everyone; with `scope` the drafts of its series from it on, or all of them."""
    event = catalog.publish(event_id, caller, scope=scope)
    response.headers["ETag"] = event.etag
    return event


handler = function.handler
