from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.entrypoints.idempotency_cache import once
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.realtime.tickets import TICKET_SECONDS, Ticket, Tickets

function = HttpFunction(access=signed_in(), limit=WRITE)


@function.post("/v1/realtime/tickets", status_code=201, response_model=Ticket)
async def create_ticket(caller: Caller = function.caller(), tickets: Tickets = function.provide(Tickets)) -> Ticket:
    """Get a ticket for one WebSocket connection, for clients that can send no header with it.

    A repeat with the same Idempotency-Key gets the same ticket, for as long as that is good.
    """
    return once(Ticket, lambda: tickets.issue(caller), user_id=caller.user_id, seconds=TICKET_SECONDS)


handler = function.handler
