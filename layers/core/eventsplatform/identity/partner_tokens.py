"""Tokens with which partner systems send commands: on whose behalf, which ones, and until when.

They are JWTs under the same keys as access tokens and for another audience, so neither passes for the other. A token
names a session of the person on whose behalf it is: it ends with the session, and with whatever ends all of the
person's sessions. No mail address is in it, for messages are kept for days.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt

from eventsplatform.clock import Clock
from eventsplatform.errors import ForbiddenError, UnauthenticatedError
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.model import User
from eventsplatform.identity.tokens import ALGORITHM, LEEWAY, StrictVerifier, end_of
from eventsplatform.signing_keys import KeySet

_CLAIM_TYPES = {
    "sub": str,
    "sid": str,
    "gen": int,
    "role": str,
    "permissions": list,
    "partner": str,
    "commands": list,
    "iat": int,
    "exp": int,
    "jti": str,
}


@dataclass(frozen=True)
class PartnerGrant:
    """What a partner system may do: some commands, as if `caller` gave them."""

    partner: str
    commands: frozenset[str]
    caller: Caller

    def require(self, command: str, now: datetime) -> None:
        """Raises UnauthenticatedError when the grant is over, ForbiddenError when it is for other commands."""
        if self.caller.expires_at + LEEWAY <= now:
            raise UnauthenticatedError("The partner token has expired.")
        if command not in self.commands:
            raise ForbiddenError(f"The partner token does not allow {command!r}.")


class PartnerTokenIssuer:
    def __init__(self, keys: Callable[[], KeySet], *, issuer: str, audience: str, clock: Clock) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock

    def read_keys(self) -> PartnerTokenIssuer:
        """The same with its keys at hand: reading them may be a call, for which no transaction waits."""
        keys = self._keys()
        return PartnerTokenIssuer(lambda: keys, issuer=self._issuer, audience=self._audience, clock=self._clock)

    def issue(
        self, user: User, *, partner: str, commands: Sequence[str], session_id: str, generation: int, until: datetime
    ) -> str:
        keys = self._keys()
        kid = keys["active"]
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user.id),
            "sid": session_id,
            "gen": generation,
            "role": user.role,
            "permissions": user.permissions,
            "partner": partner,
            "commands": list(commands),
            "iat": self._clock(),
            "exp": until,
            "jti": secrets.token_urlsafe(16),
        }
        return jwt.encode(claims, keys[kid], algorithm=ALGORITHM, headers={"kid": kid})


class PartnerTokenVerifier:
    """`keys` may be some minutes old; `keys_anew` is asked for a key id that they do not have."""

    def __init__(
        self,
        keys: Callable[[], KeySet],
        *,
        issuer: str,
        audience: str,
        keys_anew: Callable[[], KeySet] | None = None,
    ) -> None:
        self._tokens = StrictVerifier(keys, issuer=issuer, audience=audience, claims=_CLAIM_TYPES, keys_anew=keys_anew)

    def verify(self, token: str) -> PartnerGrant:
        """Whose token it is, and whether it is genuine; whether it is over is for `PartnerGrant.require` to say.

        A command that was carried out while its token was valid may be delivered again later, and is then answered
        as it was. Raises UnauthenticatedError.
        """
        return self._tokens.verify(token, _grant, may_be_over=True)


def _grant(claims: Mapping[str, Any]) -> PartnerGrant:
    """Raises ValueError for a user id that is none."""
    caller = Caller(
        user_id=int(claims["sub"]),
        email="",
        role=claims["role"],
        permissions=frozenset(claims["permissions"]),
        token_id=claims["jti"],
        session_id=claims["sid"],
        generation=claims["gen"],
        # Whether the address is confirmed is asked with whether the session is live.
        verified=False,
        expires_at=end_of(claims),
    )
    return PartnerGrant(claims["partner"], frozenset(claims["commands"]), caller)
