from fastapi import Header, Path, Response

from eventsplatform.catalog.model import Event, EventPatch
from eventsplatform.catalog.occurrences import Scope
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=verified("events:update"), limit=WRITE)


@function.patch("/v1/events/{event_id}", response_model=Event)
async def change_event(
    patch: EventPatch,
    response: Response,
    event_id: int = Path(ge=1, le=2**63 - 1),
    scope: Scope = "this",
    if_match: str | None = Header(default=None, max_length=1_000),
    caller: Caller = function.caller(),
    catalog: Catalog = function.provide(Catalog),
) -> Event:
    """Change an event with a JSON merge patch (RFC 7396).

    Once it is published its price stays, once it has begun also its start, place in time and number of places. A
    capacity below the number of places taken is refused with 409, which tells that number as `taken`.

    With `scope` all occurrences of its series that are ahead, or those from it on, get what the patch says; their
    times move by as much. All of them change or none: what refuses is named as `event_id`.
    """
    event = catalog.change(event_id, patch, caller, scope=scope, if_match=if_match)
    response.headers["ETag"] = event.etag
    return event


handler = function.handler
