from typing import Any

from pydantic import BaseModel, Field

from eventsplatform.catalog.messages import facts_of
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct


class Question(BaseModel):
    after_id: int = 0
    limit: int = Field(default=150, ge=1, le=150)


@direct(Question)
def handler(question: Question) -> dict[str, Any]:
    """A page of the events that are no drafts, by id, as they are told to services that rebuild a projection."""
    events = provide(Catalog).page(question.after_id, question.limit)
    return {"events": [facts_of(event) for event in events]}
