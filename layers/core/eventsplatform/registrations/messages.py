"""The messages that registrations emits on `evp.registrations.v1`, keyed by event so that they arrive in order."""

from __future__ import annotations

from typing import Literal

from eventsplatform.messaging.model import Change
from eventsplatform.registrations.model import Counts, Registration

Happening = Literal["created", "waitlisted", "offered", "cancelled", "checked_in"]


def registration_changed(
    registration: Registration, version: int, counts: Counts, what: Happening, actor_id: int | None
) -> Change:
    """The registration as it is now, and what this change makes of the event's counts."""
    return Change(
        aggregate_type="registration",
        aggregate_id=registration.id,
        version=version,
        type=f"registrations.{what}",
        key=str(registration.event_id),
        data={**registration.model_dump(mode="json"), "counts": counts.model_dump()},
        actor_id=actor_id,
    )
