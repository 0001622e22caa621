from uuid import UUID

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.sessions import Sessions

function = HttpFunction(access=signed_in(), limit=WRITE)


@function.delete("/v1/auth/sessions/{session_id}", status_code=204)
async def end_session(
    session_id: UUID, caller: Caller = function.caller(), sessions: Sessions = function.provide(Sessions)
) -> None:
    """Sign out somewhere else: end one of your sessions."""
    sessions.end(session_id, caller)


handler = function.handler
