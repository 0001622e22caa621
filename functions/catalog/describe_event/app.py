from pydantic import BaseModel

from eventsplatform.catalog.model import Event
from eventsplatform.catalog.service import Catalog
from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct


class Question(BaseModel):
    event_id: int


@direct(Question)
def handler(question: Question) -> Event:
    """An event whatever its status, for other services."""
    return provide(Catalog).describe(question.event_id)
