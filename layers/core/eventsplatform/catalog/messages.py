"""The messages that the catalog emits on `evp.events.v1`: the whole event as it is after the change."""

from __future__ import annotations

from typing import Literal

from eventsplatform.catalog.model import Event
from eventsplatform.messaging.model import Change

Happening = Literal["created", "updated", "published", "cancelled", "completed", "deleted"]


def event_changed(event: Event, what: Happening, actor_id: int) -> Change:
    return Change(
        aggregate_type="event",
        aggregate_id=event.id,
        version=event.version,
        type=f"events.{what}",
        key=str(event.id),
        data=event.model_dump(mode="json", exclude={"registered", "waitlisted", "available"}),
        actor_id=actor_id,
    )
