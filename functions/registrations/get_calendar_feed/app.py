from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.calendar_feeds import CalendarFeed, CalendarFeeds

function = HttpFunction(access=signed_in(), limit=READ)

NONE = {404: {"description": "There is none"}}


@function.get("/v1/users/me/calendar", response_model=CalendarFeed, responses=NONE)
async def get_calendar_feed(
    caller: Caller = function.caller(), feeds: CalendarFeeds = function.provide(CalendarFeeds)
) -> CalendarFeed:
    """See whether your events can be subscribed to, and since when. The address itself is told only when it is made."""
    return feeds.describe(caller)


handler = function.handler
