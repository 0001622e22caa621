from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.entrypoints.idempotency_cache import once
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.registrations.calendar_feeds import CalendarFeeds, NewCalendarFeed

function = HttpFunction(access=signed_in(), limit=WRITE)

DAY = 24 * 60 * 60


@function.post("/v1/users/me/calendar", status_code=201, response_model=NewCalendarFeed)
async def create_calendar_feed(
    address: str = function.address(),
    caller: Caller = function.caller(),
    feeds: CalendarFeeds = function.provide(CalendarFeeds),
) -> NewCalendarFeed:
    """Get an address at which calendar programs can subscribe to your events. The one before, if any, ends."""
    return once(NewCalendarFeed, lambda: feeds.renew(f"{address}.ics", caller), user_id=caller.user_id, seconds=DAY)


handler = function.handler
