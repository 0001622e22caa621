"""What partner systems may ask of registrations."""

from __future__ import annotations

from pydantic import Field

from eventsplatform.messaging.commands import Command


class CreateRegistration(Command):
    """`inbound.registrations.create`: a place, or one in line, as `POST /v1/events/{id}/registrations` gives it."""

    event_id: int = Field(strict=True, ge=1, le=2**63 - 1)
