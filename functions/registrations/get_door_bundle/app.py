from typing import Annotated

from fastapi import Path, Query

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.admission.check_ins import CheckIns
from eventsplatform.registrations.admission.model import DoorBundle, DoorQuery

function = HttpFunction(access=verified("events:read"), limit=READ)


@function.get("/v1/events/{event_id}/check-ins/bundle", response_model=DoorBundle)
async def get_door_bundle(
    query: Annotated[DoorQuery, Query()],
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    check_ins: CheckIns = function.provide(CheckIns),
) -> DoorBundle:
    """What a device at the door needs to check tickets while it is offline: keys, revoked tickets, who has come."""
    return check_ins.bundle(event_id, query, caller)


handler = function.handler
