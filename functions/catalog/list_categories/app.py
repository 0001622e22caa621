from fastapi import Response

from eventsplatform.catalog.model import CategoryItem
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.pagination import Page

function = HttpFunction(access=anyone(), limit=READ)


@function.get("/v1/categories", response_model=Page[CategoryItem])
async def list_categories(response: Response, catalog: Catalog = function.provide(Catalog)) -> Page[CategoryItem]:
    """List the categories that an event may have: all of them, in one page."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return catalog.categories()


handler = function.handler
