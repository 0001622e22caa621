from typing import Annotated

from fastapi import Query

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.model import SessionSummary
from eventsplatform.identity.sessions import Sessions
from eventsplatform.pagination import DEFAULT_LIMIT, MAXIMUM_LIMIT, Page

function = HttpFunction(access=signed_in(), limit=READ)


@function.get("/v1/auth/sessions", response_model=Page[SessionSummary])
async def list_sessions(
    limit: Annotated[int, Query(ge=1, le=MAXIMUM_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=1024)] = None,
    caller: Caller = function.caller(),
    sessions: Sessions = function.provide(Sessions),
) -> Page[SessionSummary]:
    """Where you are signed in, the latest first."""
    return sessions.page(caller, cursor, limit)


handler = function.handler
