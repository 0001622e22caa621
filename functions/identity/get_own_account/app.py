from fastapi import Response

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.people import OwnAccount
from eventsplatform.identity.profiles import Profiles

function = HttpFunction(access=signed_in(), limit=READ)


@function.get("/v1/users/me", response_model=OwnAccount)
async def get_own_account(
    response: Response,
    caller: Caller = function.caller(),
    profiles: Profiles = function.provide(Profiles),
) -> OwnAccount:
    """Read your own account."""
    account = profiles.own(caller)
    response.headers["ETag"] = account.etag
    return account


handler = function.handler
