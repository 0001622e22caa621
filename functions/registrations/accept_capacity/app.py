from typing import Any

from pydantic import BaseModel, Field

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.registrations.model import CapacityAnswer, EventFacts
from eventsplatform.registrations.service import Registrations


class Question(BaseModel):
    """An event as the catalog tells it, and the capacity that it is about to have."""

    event: dict[str, Any]
    capacity: int = Field(ge=1)


@direct(Question)
def handler(question: Question) -> CapacityAnswer:
    """Whether an event can have so few places; if so, no more are given out from now on."""
    return provide(Registrations).accept_capacity(EventFacts.of_event(question.event), question.capacity)
