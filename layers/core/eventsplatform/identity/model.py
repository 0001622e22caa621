"""Users: what they may be called, what they may do, and what others see of them."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, EmailStr, Field, SecretStr

from eventsplatform.fields import ONE_LINE

Role = Literal["user", "moderator", "admin"]
Status = Literal["active", "suspended", "erased"]

EVENT_PERMISSIONS = ("events:read", "events:create", "events:update", "events:delete")

ROLE_PERMISSIONS: dict[Role, tuple[str, ...]] = {
    "user": EVENT_PERMISSIONS,
    "moderator": EVENT_PERMISSIONS,
    "admin": (*EVENT_PERMISSIONS, "users:manage", "admin:access"),
}

PASSWORD_MINIMUM = 12
PASSWORD_MAXIMUM = 128


def _normalise_password(password: SecretStr) -> SecretStr:
    """NFC, so that the same characters typed on another keyboard match (NIST SP 800-63B §3.1.1.2)."""
    text = unicodedata.normalize("NFC", password.get_secret_value())
    if not PASSWORD_MINIMUM <= len(text) <= PASSWORD_MAXIMUM:
        raise ValueError(f"must be {PASSWORD_MINIMUM} to {PASSWORD_MAXIMUM} characters long")
    return _encodable(SecretStr(text))


def _encodable(password: SecretStr) -> SecretStr:
    """JSON's escapes can write half a character, which no hash function takes."""
    try:
        password.get_secret_value().encode()
    except UnicodeEncodeError as error:
        raise ValueError("must be Unicode text") from error
    return password


Password = Annotated[SecretStr, AfterValidator(_normalise_password)]
DisplayName = Annotated[str, Field(min_length=1, max_length=255), ONE_LINE]


class SignUp(BaseModel):
    """The body of `POST /v1/auth/register`."""

    model_config = ConfigDict(extra="forbid")

    email: EmailStr = Field(max_length=254)
    password: Password
    name: DisplayName


class Credentials(BaseModel):
    """The body of `POST /v1/auth/login`."""

    model_config = ConfigDict(extra="forbid")

    email: EmailStr
    password: Annotated[SecretStr, Field(max_length=1024), AfterValidator(_encodable)]


class User(BaseModel):
    """A user as that user sees it."""

    id: int
    email: str
    name: str
    role: Role
    permissions: list[str]
    status: Status
    email_verified: bool
    created_at: datetime


class Session(BaseModel):
    """The answer to a login. Tokens are secrets: the refresh token is stored as a hash only."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  the scheme, not a token
    expires_in: int = Field(description="Seconds until the access token expires.")
    user: User


class UserSummary(BaseModel):
    """What other services may know of a user."""

    id: int
    name: str
    version: int
