from fastapi import Header, Path
from fastapi.responses import Response

from eventsplatform.calendars import calendar_file
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.preconditions import is_unchanged

function = HttpFunction(access=anyone(), limit=READ)

CALENDAR = {"text/calendar": {"schema": {"type": "string", "description": "iCalendar (RFC 5545)"}}}
ANSWERS = {200: {"description": "The event for a calendar", "content": CALENDAR}, 304: {"description": "As it was"}}


@function.get("/v1/events/{event_id}/calendar.ics", response_class=Response, responses=ANSWERS)
async def get_calendar(
    event_id: int = Path(ge=1, le=2**63 - 1),
    if_none_match: str | None = Header(default=None, max_length=1_000),
    caller: Caller | None = function.optional_caller(),
    catalog: Catalog = function.provide(Catalog),
) -> Response:
    """Take an event over into a calendar; a draft only for its team. What has been called off takes it away again."""
    event = catalog.get(event_id, caller)
    headers = {"ETag": event.etag, "Content-Disposition": f'attachment; filename="event-{event.id}.ics"'}
    if is_unchanged(if_none_match, event.etag):
        return Response(status_code=304, headers=headers)
    calendar = calendar_file(event)
    return Response(calendar.content, media_type=calendar.media_type, headers=headers)


handler = function.handler
