"""The messages that the catalog emits on `evp.events.v1`: the whole event as it is after the change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from eventsplatform.catalog.model import KnownEvent, Location
from eventsplatform.messaging.model import Change
from eventsplatform.messaging.schemas import Schema, asked, told
from eventsplatform.personal_data import DELETED_TITLE

Happening = Literal["created", "updated", "published", "cancelled", "completed", "deleted"]

# Counts are registrations' to tell, and local times follow from what is told.
_NOT_TOLD = frozenset({"registered", "waitlisted", "available", "starts_at_local", "ends_at_local"})


def schemas() -> Mapping[str, Schema]:
    """What the data of each type look like."""
    from eventsplatform.catalog.commands import CancelEvent, CreateEvent, UpdateEvent  # most functions have none

    event = told(KnownEvent, without=_NOT_TOLD)
    return {
        **dict.fromkeys((f"events.{what}" for what in get_args(Happening)), event),
        "inbound.events.create": asked(CreateEvent),
        "inbound.events.update": asked(UpdateEvent),
        "inbound.events.cancel": asked(CancelEvent),
    }


def facts_of(event: KnownEvent) -> dict[str, Any]:
    """What is told of an event, and all that the event store knows of it."""
    return event.model_dump(mode="json", exclude=set(_NOT_TOLD))


def event_changed(event: KnownEvent, what: Happening, actor_id: int | None) -> Change:
    return Change(
        aggregate_type="event",
        aggregate_id=event.id,
        version=event.version,
        type=f"events.{what}",
        key=str(event.id),
        data=facts_of(event),
        actor_id=actor_id,
    )


def draft_deleted(draft: KnownEvent, actor_id: int) -> Change:
    """The draft as it last was, under the version that ends it."""
    return event_changed(draft.model_copy(update={"version": draft.version + 1}), "deleted", actor_id)


def draft_erased(draft: KnownEvent, actor_id: int) -> Change:
    """A draft that went with its organiser: nothing of what they wrote is told any more."""
    emptied = draft.model_copy(
        update={"title": DELETED_TITLE, "description": "", "location": Location(name=DELETED_TITLE), "tags": []}
    )
    return draft_deleted(emptied, actor_id)
