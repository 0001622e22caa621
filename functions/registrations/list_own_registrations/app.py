from typing import Annotated

from fastapi import Query

from eventsplatform.entrypoints.access import signed_in
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import READ
from eventsplatform.identity.caller import Caller
from eventsplatform.pagination import Page
from eventsplatform.registrations.model import PageQuery, Registration
from eventsplatform.registrations.service import Registrations

function = HttpFunction(access=signed_in(), limit=READ)


@function.get("/v1/users/me/registrations", response_model=Page[Registration])
async def list_own_registrations(
    query: Annotated[PageQuery, Query()],
    caller: Caller = function.caller(),
    registrations: Registrations = function.provide(Registrations),
) -> Page[Registration]:
    """One's own registrations, cancelled ones too, the latest first."""
    return registrations.of_user(query, caller)


handler = function.handler
