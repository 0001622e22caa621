"""Webhooks, the deliveries that they are sent, and what a delivery tells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from eventsplatform.fields import ONE_LINE, Moment
from eventsplatform.outbound import PublicHttpsUrl
from eventsplatform.pagination import DEFAULT_LIMIT, MAXIMUM_LIMIT
from eventsplatform.registrations.model import Membership, RegistrationStatus

# The types of the messages about an event, each by its name and all of a kind by `.*`.
EventType = Literal[
    "events.*",
    "events.created",
    "events.updated",
    "events.published",
    "events.cancelled",
    "events.completed",
    "events.deleted",
    "registrations.*",
    "registrations.created",
    "registrations.waitlisted",
    "registrations.offered",
    "registrations.cancelled",
    "registrations.checked_in",
    "registrations.check_in_undone",
]
DisabledReason = Literal["owner", "gone", "failing"]


def _distinct(values: list[Any] | None) -> list[Any] | None:
    return values if values is None else list(dict.fromkeys(values))


EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=20), AfterValidator(_distinct)]
EventIds = Annotated[
    list[Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]],
    Field(min_length=1, max_length=50),
    AfterValidator(_distinct),
]
Description = Annotated[str, Field(max_length=200), ONE_LINE]


class WebhookIn(BaseModel):
    """The body of `POST /v1/webhooks`."""

    model_config = ConfigDict(extra="forbid")

    url: PublicHttpsUrl
    event_types: EventTypes
    event_ids: EventIds | None = Field(default=None, description="Only these events; by default all of one's own.")
    description: Description = ""


def _without_default(schema: dict[str, Any]) -> None:
    """A field that may be left out and may not be null: what stands in its place then is nobody's business."""
    schema.pop("default", None)


def _not_null() -> Any:
    return Field(default=None, json_schema_extra=_without_default)


class WebhookPatch(BaseModel):
    """The body of `PATCH /v1/webhooks/{id}`: a merge patch (RFC 7396), in which null for `event_ids` means all."""

    model_config = ConfigDict(extra="forbid")

    url: PublicHttpsUrl = _not_null()
    event_types: EventTypes = _not_null()
    event_ids: EventIds | None = None
    description: Description = _not_null()
    enabled: Annotated[bool, Field(strict=True)] = _not_null()


class Webhook(BaseModel):
    """A webhook as its owner sees it.

    `disabled_reason` says who disabled it: its owner, its receiver by answering 410, or the platform after days of
    failures. `failing_since` is the first failure since the last success; a receiver that seems to be down is left
    alone until `paused_until`.
    """

    id: int
    url: str
    description: str
    event_types: list[EventType]
    event_ids: list[int] | None
    enabled: bool
    disabled_reason: DisabledReason | None
    disabled_at: datetime | None
    failing_since: datetime | None
    paused_until: datetime | None
    created_at: datetime
    updated_at: datetime


class IssuedSecret(BaseModel):
    """A secret, which is told this once. The one before it signs, too, until `previous_expires_at`."""

    secret: str
    previous_expires_at: datetime | None


class NewWebhook(Webhook):
    """A new webhook, and the secret that signs what it sends: it is told this once."""

    secret: str


def organizers(owner_id: int, team: Sequence[Membership]) -> list[int]:
    """Who is told what happens to an event: its owner and its managers. Who only lets people in is not."""
    return [owner_id, *(member.user_id for member in team if member.role == "manager")]


# Deliveries ---------------------------------------------------------------------------------------

DeliveryStatus = Literal["pending", "delivered", "failed", "withdrawn"]


class Attempt(BaseModel):
    """`error` says why there was no answer; of an answer the beginning of what it said is kept."""

    at: datetime
    response_status: int | None
    response_excerpt: str | None
    duration_ms: int
    error: str | None


class Delivery(BaseModel):
    """A message as it is sent, signed, in `body`, and what came of sending it.

    A withdrawn one was not sent: its webhook's owner had ceased to organise the event.
    """

    id: int
    message_id: str
    type: str
    event_id: int | None
    body: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    last_attempt: Attempt | None
    created_at: datetime


class DeliveryQuery(BaseModel):
    """The query string of `GET /v1/webhooks/{id}/deliveries`."""

    model_config = ConfigDict(extra="forbid")

    status: DeliveryStatus | None = None
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAXIMUM_LIMIT)
    cursor: str | None = Field(default=None, max_length=500)


class DeliveryTest(BaseModel):
    """A message of the type `webhooks.test`, to see whether the receiver is there and verifies signatures."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["test"]


class ReplayOfSome(BaseModel):
    """These deliveries again, whatever became of them; one that waits for its next attempt is sent now."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["some"]
    delivery_ids: list[Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]] = Field(min_length=1, max_length=100)


class ReplayOfRange(BaseModel):
    """All deliveries of a status, of messages that became deliveries in a stretch of time, the oldest first."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["range"]
    status: DeliveryStatus = "failed"
    since: Moment
    until: Moment | None = None


DeliveryRequest = Annotated[DeliveryTest | ReplayOfSome | ReplayOfRange, Field(discriminator="kind")]


class RequestedDeliveries(BaseModel):
    """How many are on their way; `more` says that a range had more than one request has sent again."""

    queued: int
    more: bool = False


# What a delivery tells ----------------------------------------------------------------------------


class SentCounts(BaseModel):
    registered: int
    waitlisted: int
    available: int


class SentRegistration(BaseModel):
    """Of a registration: whose it is as a number, which tells nobody's name or address."""

    id: int
    event_id: int
    user_id: int
    status: RegistrationStatus
    position: int | None
    registered_at: datetime
    offer_expires_at: datetime | None
    counts: SentCounts


class SentEvent(BaseModel):
    """Of an event what machines decide by; what people read is where it always is, at `GET /v1/events/{id}`."""

    id: int
    status: str
    starts_at: datetime
    ends_at: datetime
    timezone: str
    capacity: int
    version: int
