from fastapi import Path

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.admission.model import EventTicket
from eventsplatform.registrations.admission.tickets import Tickets

function = HttpFunction(access=signed_in(), limit=WRITE)


@function.post("/v1/registrations/{registration_id}/ticket", status_code=201, response_model=EventTicket)
async def reissue_ticket(
    registration_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    tickets: Tickets = function.provide(Tickets),
) -> EventTicket:
    """Another ticket in place of one's own, which others may have got hold of: that one is no good any more."""
    return tickets.reissue(registration_id, caller)


handler = function.handler
