from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import SIGN_IN
from eventsplatform.identity.caller import Caller, Client
from eventsplatform.identity.people import Erasure
from eventsplatform.identity.personal_data import PersonalData

function = HttpFunction(access=signed_in(), limit=SIGN_IN, secret_content=True)


@function.delete("/v1/users/me", status_code=204)
async def erase_own_account(
    erasure: Erasure,
    caller: Caller = function.caller(),
    client: Client = function.client(),
    personal_data: PersonalData = function.provide(PersonalData),
) -> None:
    """Erase your account and everything that names you; your password confirms it."""
    personal_data.erase(erasure, caller, client)


handler = function.handler
