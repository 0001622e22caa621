from fastapi import Header, Query
from fastapi.responses import Response

from eventsplatform.entrypoints.access import whoever_proves
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import FEED
from eventsplatform.preconditions import is_unchanged
from eventsplatform.registrations.calendar_feeds import CalendarFeeds
from eventsplatform.registrations.calendars import calendar_of

function = HttpFunction(access=whoever_proves(), limit=FEED)

CALENDAR = {"text/calendar": {"schema": {"type": "string", "description": "iCalendar (RFC 5545)"}}}
ANSWERS = {
    200: {"description": "The events of whoever made the address", "content": CALENDAR},
    304: {"description": "As it was"},
    404: {"description": "There is no such calendar, or no more"},
}


@function.get("/v1/users/me/calendar.ics", response_class=Response, responses=ANSWERS)
async def read_calendar_feed(
    token: str = Query(max_length=100),
    if_none_match: str | None = Header(default=None, max_length=1_000),
    feeds: CalendarFeeds = function.provide(CalendarFeeds),
) -> Response:
    """The calendar behind an address of `POST /v1/users/me/calendar`, for programs that subscribe to it.

    It has what its owner is registered for; what is offered to them is tentative.
    """
    content = feeds.read(token)
    headers = {"ETag": content.etag, "Cache-Control": "private, max-age=300"}
    if is_unchanged(if_none_match, content.etag):
        return Response(status_code=304, headers=headers)
    return Response(calendar_of(content), media_type="text/calendar; charset=utf-8", headers=headers)


handler = function.handler
