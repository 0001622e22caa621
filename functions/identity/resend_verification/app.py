from eventsplatform.entrypoints.access import whoever_proves
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import MAIL
from eventsplatform.identity.model import Address, MailRequested
from eventsplatform.identity.service import Identity

function = HttpFunction(access=whoever_proves(), limit=MAIL)


@function.post("/v1/auth/verify/resend", status_code=202, response_model=MailRequested)
async def resend_verification(address: Address, identity: Identity = function.provide(Identity)) -> MailRequested:
    """Ask for the mail that confirms an address once more. The answer is the same for every address."""
    identity.resend_verification(address.email)
    return MailRequested()


handler = function.handler
