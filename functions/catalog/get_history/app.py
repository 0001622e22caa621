from typing import Annotated

from fastapi import Path, Query

from eventsplatform.catalog.history import EventHistory
from eventsplatform.catalog.model import EventThen, HistoryEntry, HistoryQuery
from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.pagination import Page

function = HttpFunction(access=signed_in("events:read"), limit=READ)


@function.get("/v1/events/{event_id}/history", response_model=Page[HistoryEntry] | EventThen)
async def get_history(
    query: Annotated[HistoryQuery, Query()],
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    history: EventHistory = function.provide(EventHistory),
) -> Page[HistoryEntry] | EventThen:
    """See who changed what of an event that you own or manage, the latest first; with `as_of` the event as it was."""
    if query.as_of is not None:
        return history.at(event_id, query.as_of, caller)
    return history.page(event_id, query, caller)


handler = function.handler
