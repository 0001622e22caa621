from fastapi import Header, Path, Response

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import ADMIN
from eventsplatform.identity.administration import UserAdministration
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.people import AccessChange, AdministeredUser

function = HttpFunction(access=verified("users:manage"), limit=ADMIN)


@function.patch("/v1/admin/users/{user_id}", response_model=AdministeredUser)
async def change_user_access(
    change: AccessChange,
    response: Response,
    user_id: int = Path(ge=1, le=2**63 - 1),
    if_match: str | None = Header(default=None, max_length=1_000),
    caller: Caller = function.caller(),
    administration: UserAdministration = function.provide(UserAdministration),
) -> AdministeredUser:
    """Change someone's role or permissions, suspend or reinstate them, from their next request on."""
    user = administration.change(user_id, change, caller, if_match=if_match)
    response.headers["ETag"] = user.etag
    return user


handler = function.handler
