"""What partner systems may ask of the catalog: the bodies of the same requests, and which event they are for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eventsplatform.catalog.model import EventIn, EventPatch, Reason
from eventsplatform.messaging.commands import Command

EventId = Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]


class CreateEvent(Command):
    """`inbound.events.create`: write a draft, as `POST /v1/events` does."""

    event: EventIn


class UpdateEvent(Command):
    """`inbound.events.update`: a merge patch of an event, as `PATCH /v1/events/{id}` takes it."""

    event_id: EventId
    changes: EventPatch
    if_match: str | None = Field(default=None, max_length=1_000, description="The event's ETag, as in If-Match.")


class CancelEvent(Command):
    """`inbound.events.cancel`: call an event off, as `POST /v1/events/{id}/cancel` does."""

    event_id: EventId
    reason: Reason | None = None
