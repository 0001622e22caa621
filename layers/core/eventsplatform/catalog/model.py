"""Events as organisers write them and as readers see them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    computed_field,
    model_validator,
)

from eventsplatform.errors import ConflictError, FieldError, InvalidInputError
from eventsplatform.fields import ONE_LINE, PARAGRAPHS, Count, Moment, TimeZone
from eventsplatform.merge_patch import merge_patch
from eventsplatform.pagination import DEFAULT_LIMIT, MAXIMUM_LIMIT

Status = Literal["draft", "published", "completed", "cancelled"]
TeamRole = Literal["manager", "check_in"]
EventRole = Literal["owner", "manager", "check_in"]

TITLE_MAXIMUM = 255
DESCRIPTION_MAXIMUM = 5_000
CAPACITY_MAXIMUM = 100_000
REASON_MAXIMUM = 500
TEAM_MAXIMUM = 50


def _distinct_tags(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tag.lower() for tag in tags))


@cache
def _minor_units() -> Mapping[str, int]:
    """How many decimals each currency of ISO 4217 has. Its table is read once, where a price is written."""
    from iso4217 import Currency

    # Precious metals, funds' units of account and test codes have no minor unit and buy no ticket.
    return {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}


def _existing_currency(code: str) -> str:
    if code not in _minor_units():
        raise ValueError("is not the code of a currency in ISO 4217, such as 'EUR'")
    return code


Title = Annotated[str, Field(min_length=3, max_length=TITLE_MAXIMUM), ONE_LINE]
Description = Annotated[str, Field(max_length=DESCRIPTION_MAXIMUM), PARAGRAPHS]
PlaceName = Annotated[str, Field(min_length=1, max_length=500), ONE_LINE]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Capacity = Annotated[Count, Field(ge=1, le=CAPACITY_MAXIMUM)]
Category = Annotated[str, Field(min_length=1, max_length=50), ONE_LINE]
Tags = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=50), ONE_LINE]],
    Field(max_length=20),
    AfterValidator(_distinct_tags),
]
Amount = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$"), AfterValidator(_existing_currency)]
Reason = Annotated[str, Field(min_length=1, max_length=REASON_MAXIMUM), PARAGRAPHS]


class Location(BaseModel):
    """A place: its name and, where known, WGS 84 degrees."""

    model_config = ConfigDict(extra="forbid")

    name: PlaceName
    lat: Latitude | None = None
    lon: Longitude | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.lat is None) != (self.lon is None):
            raise ValueError("lat and lon come together")
        return self


class Price(BaseModel):
    """Money: a decimal amount and an ISO 4217 currency."""

    model_config = ConfigDict(extra="forbid")

    amount: Amount
    currency: Currency

    @model_validator(mode="after")
    def _in_minor_units(self) -> Self:
        decimals = _minor_units()[self.currency]
        if self.amount != round(self.amount, decimals):
            raise ValueError(f"amounts in {self.currency} have at most {decimals} decimals")
        return self


class EventIn(BaseModel):
    """The body of `POST /v1/events`."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    description: Description = ""
    starts_at: Moment
    ends_at: Moment
    timezone: TimeZone = "UTC"
    location: Location
    capacity: Capacity
    category: Category
    tags: Tags = []
    price: Price = Price.model_construct(amount=Decimal(0), currency="EUR")

    @model_validator(mode="after")
    def _ends_after_start(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be after starts_at")
        try:
            self.ends_at.astimezone(ZoneInfo(self.timezone))
        except OverflowError as error:
            raise ValueError("ends_at is after the year 9999 in this time zone") from error
        return self


def _without_default(schema: dict[str, Any]) -> None:
    """A field that may be left out and may not be null: what stands in its place then is nobody's business."""
    schema.pop("default", None)


def _not_null() -> Any:
    return Field(default=None, json_schema_extra=_without_default)


class LocationPatch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: PlaceName = _not_null()
    lat: Latitude | None = None
    lon: Longitude | None = None


class PricePatch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    amount: Amount = _not_null()
    currency: Currency = _not_null()


class EventPatch(BaseModel):
    """The body of `PATCH /v1/events/{id}`: a merge patch (RFC 7396), in which null sets a field back to its default."""

    model_config = ConfigDict(extra="forbid")

    title: Title = _not_null()
    description: Description | None = None
    starts_at: Moment = _not_null()
    ends_at: Moment = _not_null()
    timezone: TimeZone | None = None
    location: LocationPatch = _not_null()
    capacity: Capacity = _not_null()
    category: Category = _not_null()
    tags: Tags | None = None
    price: PricePatch | None = None

    def as_document(self) -> dict[str, Any]:
        """The patch as it was sent: null and absent are different."""
        return self.model_dump(exclude_unset=True)


class Cancellation(BaseModel):
    """The body of `POST /v1/events/{id}/cancel`: why, in the words that everyone who registered gets to read."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason | None = None


class TeamMemberIn(BaseModel):
    """The body of `PUT /v1/events/{id}/team/{user_id}`."""

    model_config = ConfigDict(extra="forbid")

    role: TeamRole = Field(description="A manager edits, publishes and cancels; check_in sees and lets people in.")


class EventListQuery(BaseModel):
    """The query string of `GET /v1/events`. Events come in the order of their start."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    organizer: int | None = Field(default=None, ge=1, le=2**63 - 1)
    category: Category | None = None
    starts_from: Moment | None = Field(default=None, alias="from")
    starts_to: Moment | None = Field(default=None, alias="to")
    status: Status | None = Field(default=None, description="Default: published, and with mine all of them.")
    mine: bool = Field(default=False, description="Those that the caller organises or helps with, drafts as well.")
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAXIMUM_LIMIT)
    cursor: str | None = Field(default=None, max_length=500)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.status == "draft" and not self.mine:
            raise ValueError("drafts are listed with mine=true alone")
        if self.organizer is not None and self.mine:
            raise ValueError("organizer and mine do not come together")
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
    cancellation_reason: str | None = None
    organizer: Organizer
    registered: int
    waitlisted: int
    available: int
    series_id: int | None = None
    series_date: date | None = Field(
        default=None, description="The date of its series that it stands for, whenever it is by now."
    )
    version: int
    created_at: datetime
    updated_at: datetime

    @computed_field(description="The start in the event's own time zone.")  # type: ignore[prop-decorator]
    @property
    def starts_at_local(self) -> datetime:
        return self.starts_at.astimezone(ZoneInfo(self.timezone))

    @computed_field(description="The end in the event's own time zone.")  # type: ignore[prop-decorator]
    @property
    def ends_at_local(self) -> datetime:
        return self.ends_at.astimezone(ZoneInfo(self.timezone))

    @property
    def etag(self) -> str:
        return f'"{self.version}"'


class Membership(BaseModel):
    """Someone who helps with an event. Names stay where they can be forgotten."""

    user_id: int
    role: TeamRole


class KnownEvent(Event):
    """An event as services know it: with its team, which no answer to the public has."""

    team: list[Membership] = []

    def role_of(self, user_id: int) -> EventRole | None:
        if user_id == self.organizer.id:
            return "owner"
        return next((member.role for member in self.team if member.user_id == user_id), None)


class TeamMember(BaseModel):
    """A member of an event's team as it is shown to the team."""

    user: Organizer
    role: EventRole


class CategoryItem(BaseModel):
    slug: str


class HistoryQuery(BaseModel):
    """The query string of `GET /v1/events/{id}/history`."""

    model_config = ConfigDict(extra="forbid")

    as_of: Moment | None = Field(default=None, description="Answer the event as it was then, instead of its changes.")
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAXIMUM_LIMIT)
    cursor: str | None = Field(default=None, max_length=500)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.as_of is not None and self.cursor is not None:
            raise ValueError("as_of and cursor do not come together")
        return self


class FieldChange(BaseModel):
    """A field of an event, and its values before and after a change."""

    field: str
    before: Any = Field(serialization_alias="from")
    after: Any = Field(serialization_alias="to")


class HistoryEntry(BaseModel):
    """One change of an event. Its creation changes every field from null."""

    version: int
    type: str
    at: datetime
    actor: Organizer | None = Field(description="Null: the platform itself, or someone whose account has been erased.")
    changes: list[FieldChange] | None = Field(description="Null: what was before is no longer kept.")


class EventThen(KnownEvent):
    """An event as it was at a moment, with its team and its counts of that time."""

    as_of: datetime


# What cannot change any more once people may have registered on its account, and once the event has begun.
FIXED_ONCE_PUBLISHED = frozenset({"price"})
FIXED_ONCE_STARTED = FIXED_ONCE_PUBLISHED | {"starts_at", "timezone", "capacity", "category"}


def written(event: Event) -> EventIn:
    """What of an event its organiser has written."""
    return EventIn.model_construct(**{name: getattr(event, name) for name in EventIn.model_fields})


def patched(event: Event, patch: EventPatch) -> EventIn:
    """What the organiser will have written. Raises InvalidInputError for what breaks a rule only once merged."""
    return merged(event, patch.as_document())


def merged(event: Event, document: Mapping[str, Any]) -> EventIn:
    """The same, of a patch's document."""
    try:
        return EventIn.model_validate(merge_patch(written(event).model_dump(), document))
    except ValidationError as error:
        raise InvalidInputError([_field_error(problem) for problem in error.errors()]) from error


def check_publication(event: Event, now: datetime) -> None:
    """Raises ConflictError for what is not a draft, or too late."""
    if event.status != "draft":
        raise ConflictError(f"Only a draft can be published; this event is {event.status}.")
    if event.starts_at <= now:
        raise ConflictError("An event that has already started cannot be published.")


def check_cancellation(event: Event, now: datetime) -> None:
    """Raises ConflictError for what is over or off."""
    if event.status not in ("draft", "published"):
        raise ConflictError(f"The event is {event.status} already.")
    if event.status == "published" and event.ends_at <= now:
        raise ConflictError("The event is over.")


def check_deletion(event: Event) -> None:
    """Raises ConflictError for what others may have seen."""
    if event.status != "draft":
        raise ConflictError(f"Only a draft can be deleted; this event is {event.status}. Cancel it instead.")


def check_change(event: Event, wanted: EventIn, now: datetime) -> None:
    """Whether the event may become what is wanted, its places aside. Raises ConflictError or InvalidInputError."""
    changing = {name for name in EventIn.model_fields if getattr(wanted, name) != getattr(event, name)}
    if not changing:
        return
    if event.status not in ("draft", "published"):
        raise ConflictError(f"The event is {event.status}: nothing of it changes any more.")
    fixed: frozenset[str] = frozenset()
    if event.status == "published":
        if event.ends_at <= now:
            raise ConflictError("The event is over: nothing of it changes any more.")
        fixed = FIXED_ONCE_STARTED if event.starts_at <= now else FIXED_ONCE_PUBLISHED
    if refused := sorted(changing & fixed):
        since = "has started" if fixed is FIXED_ONCE_STARTED else "is published"
        raise ConflictError(f"The event {since}: {', '.join(refused)} cannot change any more.", fields=refused)
    if "starts_at" in changing and wanted.starts_at <= now:
        raise InvalidInputError([FieldError("/starts_at", "must be in the future")])
    if event.status == "published" and wanted.ends_at <= now:
        raise InvalidInputError([FieldError("/ends_at", "must be in the future")])


def _field_error(problem: Any) -> FieldError:
    detail = str(problem.get("ctx", {}).get("error") or problem["msg"])
    return FieldError("".join(f"/{part}" for part in problem["loc"]), detail)


class ToldPart(BaseModel):
    """What one part of an event's places counts, in the order of its versions."""

    number: int
    registered: int
    waitlisted: int
    version: int


class ToldCounts(BaseModel):
    """The parts that a change of registrations changed: none when an offer is accepted, whose place was taken before.

    Messages of earlier releases have no parts: they know one alone.
    """

    registered: int
    waitlisted: int
    version: int
    parts: list[ToldPart] | None = None

    @property
    def latest_parts(self) -> list[ToldPart]:
        if self.parts is not None:
            return self.parts
        return [ToldPart(number=0, registered=self.registered, waitlisted=self.waitlisted, version=self.version)]


class ToldRegistration(BaseModel):
    """What the catalog reads of a message of registrations."""

    event_id: int
    counts: ToldCounts


class CapacityAnswer(BaseModel):
    """What registrations says to a lower capacity: how many places are taken, and whether it keeps to it from now."""

    accepted: bool
    taken: int
