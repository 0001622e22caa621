from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.identity.model import Registration, User
from eventsplatform.identity.service import Identity

function = HttpFunction()


@function.post("/v1/auth/register", status_code=201, response_model=User)
async def register_user(registration: Registration, identity: Identity = function.provide(Identity)) -> User:
    """Open an account."""
    return identity.register(registration)


handler = function.handler
