from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import SIGN_IN
from eventsplatform.identity.model import Credentials, Session
from eventsplatform.identity.service import Identity

function = HttpFunction(access=anyone(), limit=SIGN_IN, secret_content=True)


@function.post("/v1/auth/login", response_model=Session)
async def login(credentials: Credentials, identity: Identity = function.provide(Identity)) -> Session:
    """Open a session: an access token for 15 minutes and a refresh token."""
    return identity.login(credentials)


handler = function.handler
