from fastapi import Path

from eventsplatform.entrypoints.access import anyone
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.people import PublicUser
from eventsplatform.identity.profiles import Profiles

function = HttpFunction(access=anyone(), limit=READ)


@function.get("/v1/users/{user_id}", response_model=PublicUser)
async def get_user(
    user_id: int = Path(ge=1, le=2**63 - 1), profiles: Profiles = function.provide(Profiles)
) -> PublicUser:
    """Read what someone tells everyone about themselves."""
    return profiles.public(user_id)


handler = function.handler
