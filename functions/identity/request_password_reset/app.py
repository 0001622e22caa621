from eventsplatform.entrypoints.access import whoever_proves
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import MAIL
from eventsplatform.identity.model import Address, MailRequested
from eventsplatform.identity.service import Identity

function = HttpFunction(access=whoever_proves(), limit=MAIL)


@function.post("/v1/auth/password/forgot", status_code=202, response_model=MailRequested)
async def request_password_reset(address: Address, identity: Identity = function.provide(Identity)) -> MailRequested:
    """Ask for a mail to set a new password with. The answer is the same for every address."""
    identity.request_password_reset(address.email)
    return MailRequested()


handler = function.handler
