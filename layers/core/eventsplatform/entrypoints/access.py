"""Who may use an endpoint: one rule per endpoint, declared with it. What belongs to whom is decided at the row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eventsplatform.errors import ForbiddenError, UnauthenticatedError
from eventsplatform.identity.caller import Caller


@dataclass(frozen=True)
class Access:
    """`permission` is one of those in the access token; `verified` asks for a confirmed e-mail address.

    Without `looks_at_tokens` an access token that comes along is nobody's: it may as well have expired.
    """

    signed_in: bool
    permission: str | None = None
    verified: bool = False
    looks_at_tokens: bool = True

    def check(self, caller: Caller | None, is_verified: Callable[[Caller], bool]) -> None:
        """Raises UnauthenticatedError or ForbiddenError.

        `is_verified` is asked only about a caller whose token is from before a confirmation, if there was one.
        """
        if not self.signed_in:
            return
        if caller is None:
            raise UnauthenticatedError("Send an access token as 'Authorization: Bearer …'.")
        if self.permission is not None:
            caller.require(self.permission)
        if self.verified and not caller.verified and not is_verified(caller):
            raise ForbiddenError(
                "Confirm your e-mail address first: follow the link that was sent to you, or ask for another one "
                "with POST /v1/auth/verify/resend."
            )


def anyone() -> Access:
    """Open to all; a token that is sent nevertheless must be valid."""
    return Access(signed_in=False)


def whoever_proves() -> Access:
    """Open to whoever sends what the endpoint asks for: a password, a refresh token, a token out of a mail.

    Clients send an access token with every request, most of all when it has expired and they go for another.
    """
    return Access(signed_in=False, looks_at_tokens=False)


def signed_in(permission: str | None = None) -> Access:
    return Access(signed_in=True, permission=permission)


def verified(permission: str | None = None) -> Access:
    """Signed in, with a confirmed e-mail address."""
    return Access(signed_in=True, permission=permission, verified=True)
