from eventsplatform.entrypoints.access import whoever_proves
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import SIGN_IN
from eventsplatform.identity.caller import Client
from eventsplatform.identity.model import RefreshRequest, Session
from eventsplatform.identity.sessions import Sessions

function = HttpFunction(access=whoever_proves(), limit=SIGN_IN, secret_content=True)


@function.post("/v1/auth/refresh", response_model=Session)
async def refresh_session(
    presented: RefreshRequest,
    client: Client = function.client(),
    sessions: Sessions = function.provide(Sessions),
) -> Session:
    """Exchange a refresh token for new tokens. It works once: used again, it ends its session."""
    return sessions.refresh(presented.refresh_token.get_secret_value(), client)


handler = function.handler
