"""Users: what they may be called, what they may do, and what others see of them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

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


# As typed it may be longer than it is once composed.
Password = Annotated[SecretStr, Field(max_length=4 * PASSWORD_MAXIMUM), AfterValidator(_normalise_password)]
# One that is only compared: whatever a password may be, in bounds.
TypedPassword = Annotated[SecretStr, Field(max_length=1024), AfterValidator(_encodable)]
OneTimeToken = Annotated[SecretStr, Field(min_length=1, max_length=200), AfterValidator(_encodable)]
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

    email: EmailStr = Field(max_length=254)
    password: TypedPassword


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


class RegistrationReceived(BaseModel):
    """The answer to a registration, whoever has the address."""

    email: str
    name: str
    status: Literal["verification_sent"] = "verification_sent"


class Address(BaseModel):
    """The body of requests that ask for a mail."""

    model_config = ConfigDict(extra="forbid")

    email: EmailStr = Field(max_length=254)


class MailRequested(BaseModel):
    """The answer to such a request, whoever has the address."""

    status: Literal["mail_requested"] = "mail_requested"


class Verification(BaseModel):
    """The body of `POST /v1/auth/verify`."""

    model_config = ConfigDict(extra="forbid")

    token: OneTimeToken


class PasswordReset(BaseModel):
    """The body of `POST /v1/auth/password/reset`."""

    model_config = ConfigDict(extra="forbid")

    token: OneTimeToken
    password: Password


class PasswordChange(BaseModel):
    """The body of `POST /v1/auth/password/change`."""

    model_config = ConfigDict(extra="forbid")

    current_password: TypedPassword
    new_password: Password


class RefreshRequest(BaseModel):
    """The body of `POST /v1/auth/refresh`."""

    model_config = ConfigDict(extra="forbid")

    refresh_token: Annotated[SecretStr, Field(min_length=1, max_length=200), AfterValidator(_encodable)]


class SessionSummary(BaseModel):
    """A session as its owner sees it: where it was begun and when it was last refreshed."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str | None = Field(description="The address it was last refreshed from.")
    user_agent: str
    partner: str | None = Field(description="The partner system that acts with it; null where it is a sign-in.")
    current: bool = Field(description="Whether the request was made in this session.")


@dataclass(frozen=True)
class Account:
    """An account as signing in needs it. `known_network`: its owner has signed in from there before."""

    user: User
    password_hash: str
    generation: int
    suspension_reason: str | None = None
    known_network: bool = False


class Session(BaseModel):
    """The answer to a login. Tokens are secrets: the refresh token is stored as a hash only."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  the scheme, not a token
    expires_in: int = Field(description="Seconds until the access token expires.")
    user: User


class UserSummary(BaseModel):
    """What other services may know of a user; who is suspended has no part in anything meanwhile."""

    id: int
    name: str
    version: int
    suspended: bool = False
