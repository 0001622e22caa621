from typing import Annotated, Any

from pydantic import BaseModel, Field

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.identity.directory import PeopleDirectory


class Question(BaseModel):
    user_ids: Annotated[list[int], Field(max_length=1_000)]


@direct(Question)
def handler(question: Question) -> dict[str, Any]:
    """Whom of these users mail can be sent to, and how: for services that write to them."""
    found = provide(PeopleDirectory).recipients_among(question.user_ids)
    return {"recipients": [each.model_dump() for each in found]}
