from fastapi import Path

from eventsplatform.catalog.model import TeamMember, TeamMemberIn
from eventsplatform.catalog.occurrences import Scope
from eventsplatform.catalog.teams import Teams
from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=verified("events:update"), limit=WRITE)


@function.put("/v1/events/{event_id}/team/{user_id}", response_model=TeamMember)
async def put_team_member(
    member: TeamMemberIn,
    event_id: int = Path(ge=1, le=2**63 - 1),
    user_id: int = Path(ge=1, le=2**63 - 1),
    scope: Scope = "this",
    caller: Caller = function.caller(),
    teams: Teams = function.provide(Teams),
) -> TeamMember:
    """Take someone into the team of your event, or give them another role; with `scope` in those of its series."""
    return teams.put(event_id, user_id, member.role, caller, scope=scope)


handler = function.handler
