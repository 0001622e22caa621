from fastapi import Path

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import REGISTRATION
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.model import Registration
from eventsplatform.registrations.service import Registrations

function = HttpFunction(access=verified("events:read"), limit=REGISTRATION)


@function.post("/v1/events/{event_id}/registrations", status_code=201, response_model=Registration)
async def create_registration(
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    registrations: Registrations = function.provide(Registrations),
) -> Registration:
    """Take a place, or a place in line when the event is full."""
    return registrations.register(event_id, caller)


handler = function.handler
