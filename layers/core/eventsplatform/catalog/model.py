"""Events as organisers write them and as readers see them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from eventsplatform.fields import ONE_LINE, PARAGRAPHS, Count, Moment, TimeZone

Status = Literal["draft", "published", "completed", "cancelled"]

TITLE_MAXIMUM = 255
DESCRIPTION_MAXIMUM = 5_000
CAPACITY_MAXIMUM = 100_000


def _distinct_tags(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tag.lower() for tag in tags))


class Location(BaseModel):
    """A place: its name and, where known, WGS 84 degrees."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=500), ONE_LINE]
    lat: float | None = Field(default=None, ge=-90, le=90)
    lon: float | None = Field(default=None, ge=-180, le=180)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.lat is None) != (self.lon is None):
            raise ValueError("lat and lon come together")
        return self


class Price(BaseModel):
    """Money: a decimal amount and an ISO 4217 currency."""

    model_config = ConfigDict(extra="forbid")

    amount: Decimal = Field(ge=0, max_digits=12, decimal_places=2)
    currency: str = Field(pattern=r"^[A-Z]{3}$")


class EventIn(BaseModel):
    """The body of `POST /v1/events`."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, Field(min_length=3, max_length=TITLE_MAXIMUM), ONE_LINE]
    description: Annotated[str, Field(max_length=DESCRIPTION_MAXIMUM), PARAGRAPHS] = ""
    starts_at: Moment
    ends_at: Moment
    timezone: TimeZone = "UTC"
    location: Location
    capacity: Annotated[Count, Field(ge=1, le=CAPACITY_MAXIMUM)]
    category: Annotated[str, Field(min_length=1, max_length=50), ONE_LINE]
    tags: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=50), ONE_LINE]],
        Field(max_length=20),
        AfterValidator(_distinct_tags),
    ] = []
    price: Price = Price(amount=Decimal(0), currency="EUR")

    @model_validator(mode="after")
    def _ends_after_start(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be after starts_at")
        return self


class Organizer(BaseModel):
    id: int
    name: str


class Event(BaseModel):
    """An event as it is stored, answered and told to others."""

    id: int
    title: str
    description: str
    starts_at: datetime
    ends_at: datetime
    timezone: str
    location: Location
    capacity: int
    category: str
    tags: list[str]
    price: Price
    status: Status
    organizer: Organizer
    registered: int
    waitlisted: int
    available: int
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def etag(self) -> str:
        return f'"{self.version}"'


class ToldCounts(BaseModel):
    registered: int
    waitlisted: int
    version: int


class ToldRegistration(BaseModel):
    """What the catalog reads of a message of registrations."""

    event_id: int
    counts: ToldCounts
