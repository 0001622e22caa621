from fastapi import Query

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import EXPORT
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.personal_data import Export, PersonalData

function = HttpFunction(access=signed_in(), limit=EXPORT)


@function.get("/v1/users/me/export", response_model=Export)
async def export_own_data(
    cursor: str | None = Query(default=None, max_length=1_000),
    caller: Caller = function.caller(),
    personal_data: PersonalData = function.provide(PersonalData),
) -> Export:
    """Read everything that is held about you, in every service."""
    return personal_data.export(caller, cursor)


handler = function.handler
