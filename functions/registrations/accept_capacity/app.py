from typing import Any

from pydantic import BaseModel, Field

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.registrations.model import CapacityAnswers, EventFacts
from eventsplatform.registrations.service import Registrations


class Question(BaseModel):
    """Events as the catalog tells them, and the capacity that they are about to have."""

    events: list[dict[str, Any]]
    capacity: int = Field(ge=1)


@direct(Question)
def handler(question: Question) -> CapacityAnswers:
    """Whether events can have so few places; if so, no more are given out from now on."""
    events = [EventFacts.of_event(event) for event in question.events]
    return CapacityAnswers(answers=provide(Registrations).accept_capacity(events, question.capacity))
