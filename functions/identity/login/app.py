from eventsplatform.entrypoints.access import whoever_proves
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import SIGN_IN
from eventsplatform.identity.caller import Client
from eventsplatform.identity.model import Credentials, Session
from eventsplatform.identity.sessions import Sessions

function = HttpFunction(access=whoever_proves(), limit=SIGN_IN, secret_content=True)


@function.post("/v1/auth/login", response_model=Session)
async def login(
    credentials: Credentials,
    client: Client = function.client(),
    sessions: Sessions = function.provide(Sessions),
) -> Session:
    """Begin a session: an access token for 15 minutes and a refresh token."""
    return sessions.login(credentials, client)


handler = function.handler
