from eventsplatform.entrypoints.access import whoever_proves
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import SIGN_IN
from eventsplatform.identity.caller import Client
from eventsplatform.identity.model import PasswordReset
from eventsplatform.identity.service import Identity

function = HttpFunction(access=whoever_proves(), limit=SIGN_IN, secret_content=True)


@function.post("/v1/auth/password/reset", status_code=204)
async def reset_password(
    reset: PasswordReset,
    client: Client = function.client(),
    identity: Identity = function.provide(Identity),
) -> None:
    """Set a new password with the token of a mail. All sessions end."""
    identity.reset_password(reset, client)


handler = function.handler
