"""The messages that the catalog emits on `evp.events.v1`: the whole event as it is after the change."""

from __future__ import annotations

from typing import Literal

from eventsplatform.catalog.model import Event, Location
from eventsplatform.messaging.model import Change
from eventsplatform.personal_data import DELETED_TITLE

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


def draft_erased(draft: Event, actor_id: int) -> Change:
    """A draft that went with its organiser: nothing of what they wrote is told any more."""
    emptied = draft.model_copy(
        update={
            "version": draft.version + 1,
            "title": DELETED_TITLE,
            "description": "",
            "location": Location(name=DELETED_TITLE),
            "tags": [],
        }
    )
    return event_changed(emptied, "deleted", actor_id)
