from fastapi import Path

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.admission.check_ins import CheckIns

function = HttpFunction(access=verified("events:read"), limit=WRITE)


@function.delete("/v1/events/{event_id}/check-ins/{registration_id}", status_code=204)
async def undo_check_in(
    event_id: int = Path(ge=1, le=2**63 - 1),
    registration_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    check_ins: CheckIns = function.provide(CheckIns),
) -> None:
    """Take back a check-in that was a mistake: the ticket lets in again."""
    check_ins.undo(event_id, registration_id, caller)


handler = function.handler
