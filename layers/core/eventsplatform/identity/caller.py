"""Who is calling: what an access token says, as every other service sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eventsplatform.errors import ForbiddenError


@dataclass(frozen=True)
class Caller:
    """`session_id` and `generation` are what revocation goes by: a session may end, and with a new generation of
    the user all access tokens of earlier ones. `verified` says whether the address was confirmed when the token
    was issued; `expires_at` is the token's end."""

    user_id: int
    email: str
    role: str
    permissions: frozenset[str]
    token_id: str
    session_id: str
    generation: int
    verified: bool
    expires_at: datetime

    def require(self, permission: str) -> None:
        """Raises ForbiddenError, naming the permission, when the caller does not have it."""
        if permission not in self.permissions:
            raise ForbiddenError(f"This needs the permission {permission!r}.")

    def as_context(self) -> dict[str, str]:
        """The authorizer context: API Gateway allows only flat scalars in it."""
        return {
            "sub": str(self.user_id),
            "email": self.email,
            "role": self.role,
            "permissions": " ".join(sorted(self.permissions)),
            "jti": self.token_id,
            "sid": self.session_id,
            "gen": str(self.generation),
            "verified": "true" if self.verified else "false",
            "exp": str(int(self.expires_at.timestamp())),
        }

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> Caller:
        return cls(
            user_id=int(context["sub"]),
            email=context["email"],
            role=context["role"],
            permissions=frozenset(context["permissions"].split()),
            token_id=context["jti"],
            session_id=context["sid"],
            generation=int(context["gen"]),
            verified=context["verified"] == "true",
            expires_at=datetime.fromtimestamp(int(context["exp"]), UTC),
        )


@dataclass(frozen=True)
class Client:
    """What a request came from: the address that API Gateway saw, never one that the request itself claims."""

    address: str
    user_agent: str
