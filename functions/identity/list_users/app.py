from typing import Annotated

from fastapi import Query

from eventsplatform.entrypoints.access import verified
from eventsplatform.entrypoints.http import HttpFunction
from eventsplatform.gate.policies import ADMIN
from eventsplatform.identity.administration import UserAdministration
from eventsplatform.identity.people import AdministeredUser, UserQuery
from eventsplatform.pagination import Page

function = HttpFunction(access=verified("users:manage"), limit=ADMIN)


@function.get("/v1/admin/users", response_model=Page[AdministeredUser])
async def list_users(
    query: Annotated[UserQuery, Query()],
    administration: UserAdministration = function.provide(UserAdministration),
) -> Page[AdministeredUser]:
    """Find accounts by part of their name or address, by role and by status."""
    return administration.search(query)


handler = function.handler
