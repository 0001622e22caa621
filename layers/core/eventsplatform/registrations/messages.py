"""The messages that registrations emits on `evp.registrations.v1`, keyed by event so that counts arrive in order."""

from __future__ import annotations

from typing import Literal

from eventsplatform.messaging.model import Change
from eventsplatform.registrations.model import EventPlaces, Registration

Happening = Literal["created", "waitlisted", "offered", "cancelled", "checked_in"]


def registration_changed(
    registration: Registration, version: int, places: EventPlaces, what: Happening, actor_id: int
) -> Change:
    """The registration as it is now, and the event's counts as they are after it."""
    return Change(
        aggregate_type="registration",
        aggregate_id=registration.id,
        version=version,
        type=f"registrations.{what}",
        key=str(registration.event_id),
        data={
            **registration.model_dump(mode="json"),
            "counts": {
                "registered": places.registered,
                "waitlisted": places.waitlisted,
                "available": places.available,
                "version": places.counts_version,
            },
        },
        actor_id=actor_id,
    )
