from eventsplatform.entrypoints.access import whoever_proves
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import MAIL
from eventsplatform.identity.model import RegistrationReceived, SignUp
from eventsplatform.identity.service import Identity

function = HttpFunction(access=whoever_proves(), limit=MAIL, secret_content=True)


@function.post("/v1/auth/register", status_code=201, response_model=RegistrationReceived)
async def register_user(sign_up: SignUp, identity: Identity = function.provide(Identity)) -> RegistrationReceived:
    """Sign up; a mail asks to confirm the address. The answer is the same when the address has an account."""
    return identity.register(sign_up)


handler = function.handler
