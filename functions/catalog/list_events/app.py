from typing import Annotated

from fastapi import Query

from eventsplatform.catalog.model import Event, EventListQuery
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.pagination import Page

function = HttpFunction(access=anyone(), limit=READ)


@function.get("/v1/events", response_model=Page[Event])
async def list_events(
    query: Annotated[EventListQuery, Query()],
    caller: Caller | None = function.optional_caller(),
    catalog: Catalog = function.provide(Catalog),
) -> Page[Event]:
    """List events by their start: published ones, or with `mine=true` your own and those of your teams."""
    return catalog.browse(query, caller)


handler = function.handler
