from typing import Annotated

from fastapi import Query

from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import SEARCH
from eventsplatform.search.model import EventQuery, SearchResults
from eventsplatform.search.service import EventSearch

function = HttpFunction(access=anyone(), limit=SEARCH)


@function.get("/v1/search/events", response_model=SearchResults)
async def search_events(
    query: Annotated[EventQuery, Query()], search: EventSearch = function.provide(EventSearch)
) -> SearchResults:
    """Find published events by text, place, time, price and facet."""
    return search.find(query)


handler = function.handler
