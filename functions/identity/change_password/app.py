from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import SIGN_IN
from eventsplatform.identity.caller import Caller, Client
from eventsplatform.identity.model import PasswordChange, Session
from eventsplatform.identity.service import Identity

function = HttpFunction(access=signed_in(), limit=SIGN_IN, secret_content=True)


@function.post("/v1/auth/password/change", response_model=Session)
async def change_password(
    change: PasswordChange,
    caller: Caller = function.caller(),
    client: Client = function.client(),
    identity: Identity = function.provide(Identity),
) -> Session:
    """Set another password. All other sessions end; this one goes on with the tokens of the answer alone."""
    return identity.change_password(change, caller, client)


handler = function.handler
