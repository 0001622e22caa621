from eventsplatform.entrypoints.access import whoever_proves
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import SIGN_IN
from eventsplatform.identity.caller import Client
from eventsplatform.identity.model import User, Verification
from eventsplatform.identity.service import Identity

function = HttpFunction(access=whoever_proves(), limit=SIGN_IN, secret_content=True)


@function.post("/v1/auth/verify", response_model=User)
async def verify_email(
    verification: Verification,
    client: Client = function.client(),
    identity: Identity = function.provide(Identity),
) -> User:
    """Confirm an e-mail address with the token that was sent to it."""
    return identity.verify(verification.token.get_secret_value(), client)


handler = function.handler
