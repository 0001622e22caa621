"""The messages that identity emits on `evp.users.v1`. They carry no e-mail address: consumers need none."""

from __future__ import annotations

from collections.abc import Mapping

from eventsplatform.identity.model import UserSummary
from eventsplatform.identity.people import ErasedUser
from eventsplatform.messaging.model import Change
from eventsplatform.messaging.schemas import Schema, told


def schemas() -> Mapping[str, Schema]:
    """What the data of each type look like."""
    summary = told(UserSummary)
    return {"users.created": summary, "users.updated": summary, "users.deleted": told(ErasedUser)}


def user_created(user: UserSummary) -> Change:
    return Change(
        aggregate_type="user",
        aggregate_id=user.id,
        version=user.version,
        type="users.created",
        key=str(user.id),
        data=user.model_dump(mode="json"),
        actor_id=user.id,
    )


def user_updated(user: UserSummary, actor_id: int | None) -> Change:
    return Change(
        aggregate_type="user",
        aggregate_id=user.id,
        version=user.version,
        type="users.updated",
        key=str(user.id),
        data=user.model_dump(mode="json"),
        actor_id=actor_id,
    )


def user_deleted(user: ErasedUser) -> Change:
    """All that is left of a person: whoever keeps anything of theirs forgets it on this message."""
    return Change(
        aggregate_type="user",
        aggregate_id=user.id,
        version=user.version,
        type="users.deleted",
        key=str(user.id),
        data=user.model_dump(mode="json"),
        actor_id=user.id,
    )
