from pydantic import BaseModel

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.identity.model import UserSummary
from eventsplatform.identity.service import UserDirectory


class Question(BaseModel):
    user_id: int


@direct(Question)
def handler(question: Question) -> UserSummary:
    """What other services may know of a user."""
    return provide(UserDirectory).describe(question.user_id)
