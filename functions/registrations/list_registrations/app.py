from typing import Annotated

from fastapi import Path, Query, Response

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.downloads import CSV, csv_part
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import EXPORT, READ
from eventsplatform.identity.caller import Caller
from eventsplatform.pagination import Page
from eventsplatform.registrations.exports import RegistrationExports
from eventsplatform.registrations.model import PageQuery, Registration
from eventsplatform.registrations.service import Registrations

function = HttpFunction(access=verified("events:read"), limit=READ, forms=dict.fromkeys(CSV, EXPORT))


@function.get(
    "/v1/events/{event_id}/registrations",
    response_model=Page[Registration],
    responses={200: {"description": "A page, or a part of the file", "content": CSV}},
)
async def list_registrations(
    query: Annotated[PageQuery, Query()],
    event_id: int = Path(ge=1, le=2**63 - 1),
    form: str = function.form(),
    caller: Caller = function.caller(),
    registrations: Registrations = function.provide(Registrations),
    exports: RegistrationExports = function.provide(RegistrationExports),
) -> Page[Registration] | Response:
    """Who has registered for one's own event, in the order in which they came; with `Accept: text/csv` as a file."""
    if form not in CSV:
        return registrations.of_event(event_id, query, caller)
    part = exports.of_event(event_id, query.cursor, caller)
    filename = f"event-{event_id}-registrations.csv"
    return csv_part(part.text, filename=filename, is_first=part.is_first, next_cursor=part.next_cursor)


handler = function.handler
