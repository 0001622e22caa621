from fastapi import Path

from eventsplatform.catalog.occurrences import Scope
from eventsplatform.catalog.teams import Teams
from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import WRITE
from eventsplatform.identity.caller import Caller

function = HttpFunction(access=verified("events:update"), limit=WRITE)


@function.delete("/v1/events/{event_id}/team/{user_id}", status_code=204)
async def remove_team_member(
    event_id: int = Path(ge=1, le=2**63 - 1),
    user_id: int = Path(ge=1, le=2**63 - 1),
    scope: Scope = "this",
    caller: Caller = function.caller(),
    teams: Teams = function.provide(Teams),
) -> None:
    """Take someone out of the team of your event, or yourself out of another's; with `scope` out of its series'."""
    teams.remove(event_id, user_id, caller, scope=scope)


handler = function.handler
