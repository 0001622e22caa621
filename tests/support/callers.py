"""Callers as the authorizer makes them of access tokens, for tests that call use cases directly."""

from __future__ import annotations

from datetime import timedelta

from eventsplatform.clock import utc_now
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.model import ROLE_PERMISSIONS, Role


def caller(user_id: int, *permissions: str, role: Role = "user", verified: bool = True) -> Caller:
    """A caller with a fresh token, and unless they are named with the permissions of the role."""
    return Caller(
        user_id=user_id,
        email=f"user{user_id}@example.org",
        role=role,
        permissions=frozenset(permissions or ROLE_PERMISSIONS[role]),
        token_id=f"token-of-{user_id}",
        session_id=f"session-of-{user_id}",
        generation=1,
        verified=verified,
        expires_at=utc_now().replace(microsecond=0) + timedelta(minutes=15),
    )
