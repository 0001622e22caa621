from fastapi import Path, Response

from eventsplatform.catalog.occurrences import SeriesIn, SeriesMade
from eventsplatform.catalog.series import EventSeries
from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import SERIES
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=verified("events:create"), limit=SERIES)


@function.post("/v1/events/{event_id}/series", status_code=201, response_model=SeriesMade)
async def create_series(
    wanted: SeriesIn,
    response: Response,
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    series: EventSeries = function.provide(EventSeries),
) -> SeriesMade:
    """Repeat an event by a rule: it becomes the first of a series, and the others are drafts like it.

    Each is an event of its own, at the same time by the wall clock. Sent for an event of a series, it gives the series
    another rule: new dates get drafts like the event, drafts on dates that are no more are deleted, and published
    events on such dates refuse it.
    """
    made = series.plan(event_id, wanted, caller)
    response.headers["Location"] = f"/v1/events/{event_id}/series"
    return made


handler = function.handler
