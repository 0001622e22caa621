from fastapi import Path, Response

from eventsplatform.catalog.model import Cancellation, Event
from eventsplatform.catalog.occurrences import Scope
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=verified("events:update"), limit=WRITE)


@function.post("/v1/events/{event_id}/cancel", response_model=Event)
async def cancel_event(
    response: Response,
    cancellation: Cancellation | None = None,
    event_id: int = Path(ge=1, le=2**63 - 1),
    scope: Scope = "this",
    caller: Caller = function.caller(),
    catalog: Catalog = function.provide(Catalog),
) -> Event:
    """Call a draft or published event off, for good. Everyone who is registered learns of it, with the reason.

    With `scope` its series from it on, or all of it: what has begun already goes on.
    """
    event = catalog.cancel(event_id, cancellation.reason if cancellation else None, caller, scope=scope)
    response.headers["ETag"] = event.etag
    return event


handler = function.handler
