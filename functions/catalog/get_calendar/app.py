from fastapi import Path
from fastapi.responses import Response

from eventsplatform.catalog.calendars import calendar_of
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=anyone(), limit=READ)

CALENDAR = {"text/calendar": {"schema": {"type": "string", "description": "iCalendar (RFC 5545)"}}}


@function.get(
    "/v1/events/{event_id}/calendar.ics",
    response_class=Response,
    responses={200: {"description": "The event for a calendar", "content": CALENDAR}},
)
async def get_calendar(
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller | None = function.optional_caller(),
    catalog: Catalog = function.provide(Catalog),
) -> Response:
    """Take an event over into a calendar; a draft only for its team."""
    event = catalog.get(event_id, caller)
    headers = {"ETag": event.etag, "Content-Disposition": f'attachment; filename="event-{event.id}.ics"'}
    return Response(calendar_of(event), media_type="text/calendar; charset=utf-8", headers=headers)


handler = function.handler
