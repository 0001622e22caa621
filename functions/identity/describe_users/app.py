from typing import Annotated, Any

from pydantic import BaseModel, Field

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.identity.directory import PeopleDirectory


class Question(BaseModel):
    user_ids: Annotated[list[int], Field(max_length=1_000)]


@direct(Question)
def handler(question: Question) -> dict[str, Any]:
    """What other services may know of users: one is missing that never was or is erased."""
    found = provide(PeopleDirectory).summaries_of(question.user_ids)
    return {"users": [each.model_dump() for each in found]}
