from fastapi import Path, Response

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.admission.codes import qr_code
from eventsplatform.registrations.admission.model import EventTicket
from eventsplatform.registrations.admission.tickets import Tickets

CODE = {"schema": {"type": "string", "description": "The ticket's QR code"}}
PICTURES = {"image/svg+xml": CODE, "image/png": CODE}

function = HttpFunction(access=signed_in(), limit=READ, forms=dict.fromkeys(PICTURES, READ))


@function.get(
    "/v1/registrations/{registration_id}/ticket",
    response_model=EventTicket,
    responses={
        200: {"description": "The ticket, or its code", "content": PICTURES},
        409: {"description": "The registration has no ticket"},
    },
)
async def get_ticket(
    registration_id: int = Path(ge=1, le=2**63 - 1),
    form: str = function.form(),
    caller: Caller = function.caller(),
    tickets: Tickets = function.provide(Tickets),
) -> EventTicket | Response:
    """One's own ticket, or its QR code with `Accept: image/svg+xml`, or with `image/png` if that comes first in it."""
    ticket = tickets.of(registration_id, caller)
    return Response(qr_code(ticket.token, form), media_type=form) if form in PICTURES else ticket


handler = function.handler
