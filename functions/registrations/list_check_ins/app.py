from typing import Annotated

from fastapi import Path, Query

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.pagination import Page
from eventsplatform.registrations.admission.check_ins import CheckIns
from eventsplatform.registrations.admission.model import CheckIn
from eventsplatform.registrations.model import PageQuery

function = HttpFunction(access=verified("events:read"), limit=READ)


@function.get("/v1/events/{event_id}/check-ins", response_model=Page[CheckIn])
async def list_check_ins(
    query: Annotated[PageQuery, Query()],
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    check_ins: CheckIns = function.provide(CheckIns),
) -> Page[CheckIn]:
    """Who has come to one's own event, the last one first."""
    return check_ins.of_event(event_id, query, caller)


handler = function.handler
