from fastapi import Path

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.admission.check_ins import CheckIns
from eventsplatform.registrations.admission.model import CheckIn, CheckInRequest, SyncedScans

function = HttpFunction(access=verified("events:read"), limit=WRITE)


@function.post("/v1/events/{event_id}/check-ins", response_model=CheckIn | SyncedScans)
async def check_in(
    request: CheckInRequest,
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    check_ins: CheckIns = function.provide(CheckIns),
) -> CheckIn | SyncedScans:
    """Let someone in who shows a ticket or is on the list; or tell of scans that were made offline, with their times.

    A ticket that lets nobody in is a 409 whose `outcome` says why, and whose `check_in` has who saw it before and when.
    Of scans that were made offline each has its own outcome, and the same one when it is sent again.
    """
    if request.scans is not None:
        return check_ins.sync(event_id, request.scans, caller)
    return check_ins.check_in(event_id, request, caller)


handler = function.handler
