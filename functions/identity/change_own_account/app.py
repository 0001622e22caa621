from fastapi import Header, Response

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.people import AccountPatch, OwnAccount
from eventsplatform.identity.profiles import Profiles

function = HttpFunction(access=signed_in(), limit=WRITE)


@function.patch("/v1/users/me", response_model=OwnAccount)
async def change_own_account(
    patch: AccountPatch,
    response: Response,
    if_match: str | None = Header(default=None, max_length=1_000),
    caller: Caller = function.caller(),
    profiles: Profiles = function.provide(Profiles),
) -> OwnAccount:
    """Change your name, avatar or profile with a JSON merge patch (RFC 7396)."""
    account = profiles.change(patch, caller, if_match=if_match)
    response.headers["ETag"] = account.etag
    return account


handler = function.handler
