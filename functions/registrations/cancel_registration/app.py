from fastapi import Path

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.service import Registrations

function = HttpFunction(access=verified("events:read"), limit=WRITE)


@function.delete("/v1/events/{event_id}/registrations/me", status_code=204)
async def cancel_registration(
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    registrations: Registrations = function.provide(Registrations),
) -> None:
    """Give up one's place, an offer of one, or one's place in line; the first in line is offered what is freed."""
    registrations.cancel(event_id, caller)


handler = function.handler
