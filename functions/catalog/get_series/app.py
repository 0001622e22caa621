from typing import Annotated

from fastapi import Path, Query

from eventsplatform.catalog.occurrences import SeriesPage, SeriesQuery
from eventsplatform.catalog.series import EventSeries
from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=anyone(), limit=READ)


@function.get("/v1/events/{event_id}/series", response_model=SeriesPage)
async def get_series(
    query: Annotated[SeriesQuery, Query()],
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller | None = function.optional_caller(),
    series: EventSeries = function.provide(EventSeries),
) -> SeriesPage:
    """See the series that an event is in: its rule, and its occurrences by date; drafts only for their teams."""
    return series.page(event_id, query, caller)


handler = function.handler
