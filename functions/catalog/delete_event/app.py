from fastapi import Header, Path

from eventsplatform.catalog.occurrences import Scope
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=verified("events:delete"), limit=WRITE)


@function.delete("/v1/events/{event_id}", status_code=204)
async def delete_event(
    event_id: int = Path(ge=1, le=2**63 - 1),
    scope: Scope = "this",
    if_match: str | None = Header(default=None, max_length=1_000),
    caller: Caller = function.caller(),
    catalog: Catalog = function.provide(Catalog),
) -> None:
    """Delete a draft of your own, or those of its series. What has been published is cancelled instead."""
    catalog.delete(event_id, caller, scope=scope, if_match=if_match)


handler = function.handler
