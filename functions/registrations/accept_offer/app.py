from fastapi import Path

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import REGISTRATION
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.model import Registration
from eventsplatform.registrations.service import Registrations

function = HttpFunction(access=verified("events:read"), limit=REGISTRATION)


@function.post("/v1/events/{event_id}/registrations/me/accept", response_model=Registration)
async def accept_offer(
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    registrations: Registrations = function.provide(Registrations),
) -> Registration:
    """Take the place that has been offered, before the offer expires."""
    return registrations.accept(event_id, caller)


handler = function.handler
