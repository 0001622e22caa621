from pydantic import BaseModel

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.identity.sessions import SessionCheck, SessionState


class Question(BaseModel):
    user_id: int
    session_id: str
    token_id: str
    generation: int


@direct(Question)
def handler(question: Question) -> SessionState:
    """Whether a session is live, for the gate where the cache can't tell."""
    return provide(SessionCheck).check(**question.model_dump())
