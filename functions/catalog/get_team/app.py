from fastapi import Path

from eventsplatform.catalog.model import TeamMember
from eventsplatform.catalog.teams import Teams
from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.pagination import Page

function = HttpFunction(access=signed_in("events:read"), limit=READ)


@function.get("/v1/events/{event_id}/team", response_model=Page[TeamMember])
async def get_team(
    event_id: int = Path(ge=1, le=2**63 - 1),
    caller: Caller = function.caller(),
    teams: Teams = function.provide(Teams),
) -> Page[TeamMember]:
    """See who helps with an event that you organise or help with, the owner first: all of them, in one page."""
    return teams.members(event_id, caller)


handler = function.handler
