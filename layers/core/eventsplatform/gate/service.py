"""Admission: every request and every WebSocket message passes here before anything is done for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.clock import Clock
from eventsplatform.errors import DependencyUnavailableError, RateLimitedError, UnauthenticatedError
from eventsplatform.gate.model import (
    COPY_SECONDS,
    LEEWAY,
    LimitClass,
    LocalLimiter,
    Session,
    SessionState,
    Standing,
    StoreUnavailableError,
    Verdict,
    address_scope,
)
from eventsplatform.gate.policies import Policy, policy_for

# A Redis that is down or black-holed is asked again after this; each try may cost its time-out.
RETRY_SECONDS = CALL_POLICIES["gate"].recovery


class Store(Protocol):
    def check(self, policy: Policy, address: str, session: Session | None) -> Verdict:
        """One round trip. Raises StoreUnavailableError."""

    def reconnected(self) -> bool:
        """Whether the connection had broken since this was last asked, so what Redis holds may be a replica's."""


class Sessions(Protocol):
    def check(self, session: Session) -> SessionState:
        """What Postgres says. Raises DependencyUnavailableError."""


@dataclass(frozen=True)
class Admission:
    """`headers` belong on the answer."""

    headers: Mapping[str, str] = field(default_factory=dict)


class Gate:
    """Lets a request through, or raises what it is to be answered with.

    Postgres is the truth about sessions, Redis holds a copy that says itself until when it is complete. Where the
    copy can't be relied on, identity is asked; where identity can't be asked either, nobody who claims to be
    signed in gets through. Limits fall open instead: they protect what works, and nothing else keeps count.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        clock: Clock,
        monotonic: Callable[[], float],
        report_unavailable: Callable[[LimitClass], None],
        address_factor: int = 1,
        *,
        copy_seconds: float = COPY_SECONDS,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._clock = clock
        self._monotonic = monotonic
        self._report_unavailable = report_unavailable
        self._address_factor = address_factor
        self._copy_seconds = copy_seconds
        self._local = LocalLimiter(monotonic)
        self._retry_at = -math.inf
        self._trusted_from = -math.inf

    def admit(self, caller: Session | None, address: str, limit_class: LimitClass) -> Admission:
        """Count the request against all its levels, or against none when one refuses it.

        Raises UnauthenticatedError when the token or the session has ended, RateLimitedError when a level has no room,
        DependencyUnavailableError when nobody can tell whether the session is live.
        """
        if caller is not None and caller.expires_at + LEEWAY <= self._clock():
            # Verified already, but maybe a while ago: API Gateway keeps the authorizer's answer, and a WebSocket its
            # caller.
            raise UnauthenticatedError("The access token has expired.")
        policy = policy_for(limit_class, signed_in=caller is not None, address_factor=self._address_factor)
        address = address_scope(address)
        verdict = self._check(policy, address, caller)
        if verdict is None:
            self._report_unavailable(limit_class)
            if limit_class.fallback:
                # The class alone: the wider levels mean little for the requests that one process happens to see.
                own = policy.levels(address, caller.user_id if caller else None)[-1:]
                _refuse_limited(policy, self._local.check(own), own[0].name)
            if caller is not None:
                self._ask(caller)
            return Admission()
        if verdict.standing is Standing.REVOKED:
            raise _ended()
        name = policy.rules[verdict.level].name
        _refuse_limited(policy, verdict, name)
        if caller is not None:
            self._confirm(caller, verdict.standing)
        return Admission(_fields(policy, verdict, name))

    def is_verified(self, caller: Session) -> bool:
        """What Postgres says by now: a token may be older than its account's verification.

        Raises UnauthenticatedError and DependencyUnavailableError as `admit` does.
        """
        return self._ask(caller).verified

    def _check(self, policy: Policy, address: str, caller: Session | None) -> Verdict | None:
        now = self._monotonic()
        if now < self._retry_at:
            return None
        try:
            verdict = self._store.check(policy, address, caller)
        except StoreUnavailableError:
            self._retry_at = self._monotonic() + RETRY_SECONDS
            self._trusted_from = self._monotonic() + self._copy_seconds
            return None
        if self._store.reconnected():
            self._trusted_from = self._monotonic() + self._copy_seconds
        return verdict

    def _confirm(self, caller: Session, standing: Standing) -> None:
        if standing is Standing.UNKNOWN or self._monotonic() < self._trusted_from:
            self._ask(caller)
        elif standing is Standing.RENEW:
            try:
                self._ask(caller)
            except DependencyUnavailableError:
                return  # the copy is still good; the next to be told renews it

    def _ask(self, caller: Session) -> SessionState:
        state = self._sessions.check(caller)
        if not state.live:
            raise _ended()
        return state


def _ended() -> UnauthenticatedError:
    return UnauthenticatedError("This session has ended; sign in again.")


def _refuse_limited(policy: Policy, verdict: Verdict, name: str) -> None:
    if not verdict.limited:
        return
    wait = math.ceil(verdict.seconds)
    raise RateLimitedError(
        f"The limit {name!r} is used up; try again in {wait} second{'s' if wait != 1 else ''}.",
        retry_after_seconds=wait,
        headers=_fields(policy, verdict, name),
        **{"violated-policies": [name]},
    )


def _fields(policy: Policy, verdict: Verdict, name: str) -> dict[str, str]:
    """The fields of draft-ietf-httpapi-ratelimit-headers: all quotas, and what is left of the tightest."""
    return {
        "RateLimit-Policy": policy.header,
        "RateLimit": f'"{name}";r={verdict.remaining};t={math.ceil(verdict.seconds)}',
    }
