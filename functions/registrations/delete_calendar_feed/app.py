from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.calendar_feeds import CalendarFeeds

function = HttpFunction(access=signed_in(), limit=WRITE)

NONE = {404: {"description": "There is none"}}


@function.delete("/v1/users/me/calendar", status_code=204, responses=NONE)
async def delete_calendar_feed(
    caller: Caller = function.caller(), feeds: CalendarFeeds = function.provide(CalendarFeeds)
) -> None:
    """End the subscription to your events, for everyone who knows its address."""
    feeds.revoke(caller)


handler = function.handler
