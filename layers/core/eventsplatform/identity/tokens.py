"""Access tokens: JWTs signed with HS256 under a key id, verified strictly (RFC 7519, RFC 8725).

The key set is a secret `{"active": "<kid>", "<kid>": "<key>", …}`: tokens are signed with the active key
and verified with any key of the set, so that keys rotate without logging anyone out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import jwt

from eventsplatform.clock import Clock
from eventsplatform.errors import UnauthenticatedError
from eventsplatform.identity.caller import Caller
from eventsplatform.identity.model import User
from eventsplatform.signing_keys import KeySet

ALGORITHM = "HS256"
LIFETIME = timedelta(minutes=15)
LEEWAY = timedelta(seconds=30)
# What the issuer writes; `iss` and `aud` are compared as a whole. A bool is an int in Python, and no generation.
_CLAIM_TYPES = {
    "sub": str,
    "sid": str,
    "gen": int,
    "email": str,
    "email_verified": bool,
    "role": str,
    "permissions": list,
    "iat": int,
    "exp": int,
    "jti": str,
}

Verified = TypeVar("Verified")

_EPOCH = datetime.fromtimestamp(0, UTC)


class AccessTokenIssuer:
    def __init__(self, keys: Callable[[], KeySet], *, issuer: str, audience: str, clock: Clock) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock

    def read_keys(self) -> AccessTokenIssuer:
        """The same with its keys at hand: reading them may be a call, for which no transaction waits."""
        keys = self._keys()
        return AccessTokenIssuer(lambda: keys, issuer=self._issuer, audience=self._audience, clock=self._clock)

    def issue(self, user: User, *, session_id: str, generation: int) -> str:
        """A token of the session. Whoever raises the user's generation ends all tokens issued before."""
        keys = self._keys()
        kid = keys["active"]
        now = self._clock()
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(user.id),
            "sid": session_id,
            "gen": generation,
            "email": user.email,
            "email_verified": user.email_verified,
            "role": user.role,
            "permissions": user.permissions,
            "iat": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_urlsafe(16),
        }
        return jwt.encode(claims, keys[kid], algorithm=ALGORITHM, headers={"kid": kid})


class StrictVerifier:
    """Verifies the tokens of one audience, each with all the claims that its issuer gives it, and of their types.

    `keys` may be some minutes old; `keys_anew` is asked for a key id that they do not have.
    """

    def __init__(
        self,
        keys: Callable[[], KeySet],
        *,
        issuer: str,
        audience: str,
        claims: Mapping[str, type],
        keys_anew: Callable[[], KeySet] | None = None,
    ) -> None:
        self._keys = keys
        self._keys_anew = keys_anew or keys
        self._issuer = issuer
        self._audience = audience
        self._claims = claims

    def verify(self, token: str, read: Callable[[Mapping[str, Any]], Verified], *, may_be_over: bool) -> Verified:
        """What `read` makes of the claims. Raises UnauthenticatedError: wrongly signed, for another audience …"""
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["iss", "aud", *self._claims], "strict_aud": True, "verify_exp": not may_be_over},
            )
            for name, expected in self._claims.items():
                if type(claims[name]) is not expected:
                    raise TypeError(f"{name} is not {expected.__name__}")
            return read(claims)
        except jwt.ExpiredSignatureError as error:
            raise UnauthenticatedError("The access token has expired.") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise UnauthenticatedError("The access token is not valid.") from error

    def _key(self, kid: object) -> str:
        if isinstance(kid, str) and kid != "active":
            key = self._keys().get(kid) or self._keys_anew().get(kid)
            if key is not None:
                return key
        raise UnauthenticatedError("The access token was signed with an unknown key.")


class AccessTokenVerifier:
    def __init__(
        self,
        keys: Callable[[], KeySet],
        *,
        issuer: str,
        audience: str,
        keys_anew: Callable[[], KeySet] | None = None,
    ) -> None:
        self._tokens = StrictVerifier(keys, issuer=issuer, audience=audience, claims=_CLAIM_TYPES, keys_anew=keys_anew)

    def verify_header(self, authorization: str) -> Caller:
        """The caller that an `Authorization: Bearer …` header stands for. Raises UnauthenticatedError."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("Authorization must be 'Bearer <access token>'.")
        return self.verify(token.strip())

    def verify(self, token: str) -> Caller:
        """Raises UnauthenticatedError: expired, wrongly signed, for another audience, incomplete …"""
        return self._tokens.verify(token, _caller, may_be_over=False)


def end_of(claims: Mapping[str, Any]) -> datetime:
    """When a token ends. Raises OverflowError for a moment that is none."""
    return _EPOCH + timedelta(seconds=claims["exp"])


def _caller(claims: Mapping[str, Any]) -> Caller:
    """Raises ValueError for a user id that is none."""
    return Caller(
        user_id=int(claims["sub"]),
        email=claims["email"],
        role=claims["role"],
        permissions=frozenset(claims["permissions"]),
        token_id=claims["jti"],
        session_id=claims["sid"],
        generation=claims["gen"],
        verified=claims["email_verified"],
        expires_at=end_of(claims),
    )
