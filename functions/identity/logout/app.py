from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.sessions import Sessions

function = HttpFunction(access=signed_in(), limit=WRITE)


@function.post("/v1/auth/logout", status_code=204)
async def logout(caller: Caller = function.caller(), sessions: Sessions = function.provide(Sessions)) -> None:
    """End the session: its tokens are refused from here on."""
    sessions.logout(caller)


handler = function.handler
