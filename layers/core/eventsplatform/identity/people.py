"""What is known of a person, and what of it who may see: the person, everyone, and who administers accounts."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Literal, Self, get_args

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from eventsplatform.fields import ONE_LINE, PARAGRAPHS, TimeZone, storable
from eventsplatform.identity.model import DisplayName, Role, Status, TypedPassword
from eventsplatform.outbound import PublicHttpsUrl
from eventsplatform.pagination import DEFAULT_LIMIT, MAXIMUM_LIMIT

Permission = Literal["events:read", "events:create", "events:update", "events:delete", "users:manage", "admin:access"]

PERMISSIONS: tuple[Permission, ...] = get_args(Permission)
MANAGE_USERS: Permission = "users:manage"
PREFERENCES_BYTES = 4_096
# What JSON's readers agree on (RFC 8259 §6).
WHOLE_NUMBER_MAXIMUM = 2**53 - 1


def _storable_json(value: Any) -> Any:
    """JSON that Postgres and every reader can hold; raises ValueError naming what it cannot."""
    if isinstance(value, dict):
        return {storable(name): _storable_json(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_storable_json(member) for member in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must not have numbers that are not finite")
    if isinstance(value, int) and abs(value) > WHOLE_NUMBER_MAXIMUM:
        raise ValueError("must not have whole numbers beyond 2^53")
    return storable(value)


def _within_bounds(preferences: dict[str, Any]) -> dict[str, Any]:
    size = len(orjson.dumps(_storable_json(preferences)))
    if size > PREFERENCES_BYTES:
        raise ValueError(f"takes {size} bytes as JSON; at most {PREFERENCES_BYTES} are kept")
    return preferences


def _distinct_interests(interests: list[str]) -> list[str]:
    return list(dict.fromkeys(interest.lower() for interest in interests))


Bio = Annotated[str, Field(max_length=2_000), PARAGRAPHS]
City = Annotated[str, Field(max_length=100), ONE_LINE]
# ISO 3166-1 alpha-2 and BCP 47, by their form.
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,4}$")]
Interests = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=50), ONE_LINE]],
    Field(max_length=20),
    AfterValidator(_distinct_interests),
]
Switch = Annotated[bool, Field(strict=True)]
# Free-form, for the settings of clients: nothing here reads them.
Preferences = Annotated[dict[str, Any], AfterValidator(_within_bounds)]


class PublicProfile(BaseModel):
    """What people tell everyone about themselves."""

    bio: Bio | None = None
    city: City | None = None
    country: Country | None = None
    interests: Interests = []
    website: PublicHttpsUrl | None = None


class Profile(PublicProfile):
    """All of it. Stored as the JSON of the fields that are set."""

    model_config = ConfigDict(extra="forbid")

    timezone: TimeZone | None = None
    language: Language | None = None
    event_reminders: Switch = Field(default=True, description="Whether a mail reminds of an event the day before.")
    preferences: Preferences = {}


def public_part(profile: Profile) -> PublicProfile:
    return PublicProfile.model_construct(**{name: getattr(profile, name) for name in PublicProfile.model_fields})


class ProfilePatch(BaseModel):
    """A merge patch (RFC 7396) of a profile: null takes a field away, `preferences` merge member by member."""

    model_config = ConfigDict(extra="forbid")

    bio: Bio | None = None
    city: City | None = None
    country: Country | None = None
    interests: Interests | None = None
    website: PublicHttpsUrl | None = None
    timezone: TimeZone | None = None
    language: Language | None = None
    event_reminders: Switch | None = None
    preferences: Preferences | None = None


def _without_default(schema: dict[str, Any]) -> None:
    """A field that may be left out and may not be null: what stands in its place then is nobody's business."""
    schema.pop("default", None)


class AccountPatch(BaseModel):
    """The body of `PATCH /v1/users/me`: a merge patch of what people may change of their own account."""

    model_config = ConfigDict(extra="forbid")

    name: DisplayName = Field(default="", json_schema_extra=_without_default)
    avatar_url: PublicHttpsUrl | None = None
    profile: ProfilePatch | None = None

    def as_document(self) -> dict[str, Any]:
        """The patch as it was sent: null and absent are different."""
        return self.model_dump(exclude_unset=True)


class OwnAccount(BaseModel):
    """An account as its owner sees it."""

    id: int
    email: str
    email_verified: bool
    name: str
    avatar_url: str | None
    profile: Profile
    role: Role
    permissions: list[str]
    status: Status
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def etag(self) -> str:
        return f'"{self.version}"'


class PublicUser(BaseModel):
    """An account as everyone sees it."""

    id: int
    name: str
    avatar_url: str | None
    profile: PublicProfile


class AdministeredUser(BaseModel):
    """An account as who administers accounts sees it."""

    id: int
    email: str
    email_verified: bool
    name: str
    role: Role
    permissions: list[str]
    status: Status
    suspension_reason: str | None
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def etag(self) -> str:
        return f'"{self.version}"'

    @property
    def administers(self) -> bool:
        """Whether this account can give and take away access, its own kind included."""
        return self.status == "active" and self.role == "admin" and MANAGE_USERS in self.permissions


class UserQuery(BaseModel):
    """The query string of `GET /v1/admin/users`. Erased accounts are listed when they are asked for."""

    model_config = ConfigDict(extra="forbid")

    q: Annotated[str, Field(max_length=254, description="Part of a name or of an e-mail address."), ONE_LINE] = ""
    role: Role | None = None
    status: Status | None = None
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAXIMUM_LIMIT)
    cursor: str | None = Field(default=None, max_length=500)


def _distinct(permissions: list[Permission]) -> list[Permission]:
    """In the order in which they are listed everywhere."""
    return [permission for permission in PERMISSIONS if permission in permissions]


class AccessChange(BaseModel):
    """The body of `PATCH /v1/admin/users/{id}`. A new role brings its permissions unless others are given."""

    model_config = ConfigDict(extra="forbid")

    role: Role = Field(default="user", json_schema_extra=_without_default)
    permissions: Annotated[
        list[Permission],
        Field(max_length=len(PERMISSIONS), json_schema_extra=_without_default),
        AfterValidator(_distinct),
    ] = []
    status: Literal["active", "suspended"] = Field(default="active", json_schema_extra=_without_default)
    reason: Annotated[
        str,
        Field(min_length=1, max_length=500, description="Why someone is suspended: told to the person."),
        ONE_LINE,
    ] = Field(default="", json_schema_extra=_without_default)

    @model_validator(mode="after")
    def _has_what_the_reason_is_for(self) -> Self:
        if self.changes("reason") and not (self.changes("status") and self.status == "suspended"):
            raise ValueError("only a suspension has a reason")
        return self

    def changes(self, *fields: str) -> bool:
        return bool(self.model_fields_set & set(fields))


class Erasure(BaseModel):
    """The body of `DELETE /v1/users/me`: what only the owner of the account knows."""

    model_config = ConfigDict(extra="forbid")

    password: TypedPassword


class Recipient(BaseModel):
    """Whom another service may write to, and as it suits them. `reminders`: whether they want any."""

    id: int
    email: str
    name: str
    timezone: str | None
    reminders: bool


class ErasedUser(BaseModel):
    """What other services are told of an erased account."""

    id: int
    version: int
