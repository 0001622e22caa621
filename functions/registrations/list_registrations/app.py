from typing import Annotated

from fastapi import Path, Query

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.pagination import Page
from eventsplatform.registrations.model import PageQuery, Registration
from eventsplatform.registrations.service import Registrations

function = HttpFunction(access=verified("events:read"), limit=READ)


@function.get("/v1/events/{event_id}/registrations", response_model=Page[Registration])
async def list_registrations(
    query: Annotated[PageQuery, Query()],
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    registrations: Registrations = function.provide(Registrations),
) -> Page[Registration]:
    """Who has registered for one's own event, in the order in which they came."""
    return registrations.of_event(event_id, query, caller)


handler = function.handler
