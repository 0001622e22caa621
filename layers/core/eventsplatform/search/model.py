"""What can be searched for, and what a search answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eventsplatform.fields import ONE_LINE, Moment
from eventsplatform.pagination import DEFAULT_LIMIT, MAXIMUM_LIMIT

Sort = Literal["relevance", "date", "distance"]


class EventQuery(BaseModel):
    """The query string of `GET /v1/search/events`. Without `from`, events that are over are left out."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    q: Annotated[str, Field(max_length=200, description="Words in title, description, tags or place."), ONE_LINE] = ""
    category: Annotated[list[Annotated[str, Field(max_length=50), ONE_LINE]], Field(max_length=20)] = []
    tag: Annotated[list[Annotated[str, Field(max_length=50), ONE_LINE]], Field(max_length=20)] = []
    lat: float | None = Field(default=None, ge=-90, le=90)
    lon: float | None = Field(default=None, ge=-180, le=180)
    radius_km: float = Field(default=50, gt=0, le=20_000, description="Applies when lat and lon are given.")
    starts_from: Moment | None = Field(default=None, alias="from")
    starts_to: Moment | None = Field(default=None, alias="to")
    price_max: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    sort: Sort | None = Field(default=None, description="Default: relevance with q, otherwise date.")
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAXIMUM_LIMIT)
    cursor: str | None = Field(default=None, max_length=500)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.lat is None) != (self.lon is None):
            raise ValueError("lat and lon come together")
        if self.sort == "distance" and self.lat is None:
            raise ValueError("sort=distance needs lat and lon")
        return self

    @property
    def order(self) -> Sort:
        return self.sort or ("relevance" if self.q else "date")


class FoundPlace(BaseModel):
    name: str
    lat: float | None
    lon: float | None


class FoundPrice(BaseModel):
    amount: str
    currency: str


class FoundOrganizer(BaseModel):
    id: int
    name: str


class FoundEvent(BaseModel):
    """An event as the index holds it; validated on the way out, for an index is another system's answer."""

    id: int
    title: str
    description: str
    starts_at: datetime
    ends_at: datetime
    timezone: str
    location: FoundPlace
    capacity: int
    category: str
    tags: list[str]
    price: FoundPrice
    status: str
    organizer: FoundOrganizer
    series_id: int | None = None
    distance_km: float | None = None


class Facet(BaseModel):
    value: str
    count: int


class SearchResults(BaseModel):
    """`facets` count all matches, not the page; each ignores the filter on itself and heeds the other's."""

    items: list[FoundEvent]
    next_cursor: str | None
    total: int
    facets: dict[str, list[Facet]]


class IndexedEvent(BaseModel):
    """The document of an event, and the version that keeps a late message from overwriting a newer one."""

    version: int
    document: dict[str, Any]

    @classmethod
    def of_event(cls, event: Mapping[str, Any]) -> IndexedEvent:
        """An event as the catalog tells it. Raises ValueError for one that could not be answered to a search."""
        FoundEvent.model_validate(event)
        return cls(version=event["version"], document=dict(event))

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def is_public(self) -> bool:
        return bool(self.document["status"] != "draft")
