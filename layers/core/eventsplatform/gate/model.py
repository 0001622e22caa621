"""Limits and sessions as the gate sees them: pure, and the reference that the script in Redis is tested against.

Limits are GCRA (the generic cell rate algorithm, ITU-T I.371): per key one number, the theoretical arrival time
(TAT) at which the quota will be whole again. A request costs one emission interval; it is admitted while the TAT
stays within one window from now. So a full quota may come at once (the burst), and after that one request per
interval: in any span of `t` seconds at most `requests * (1 + t / seconds)`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol

# By how much the clocks of who issues and who verifies an access token may differ.
LEEWAY = timedelta(seconds=30)

# How long the copy of the revocations in Redis may be relied on without being renewed.
COPY_SECONDS = 10.0


@dataclass(frozen=True)
class Quota:
    requests: int
    seconds: int = 60

    @cached_property
    def emission_us(self) -> int:
        """The time that one request takes up. Rounded up, so that rounding never admits more."""
        return -(-self.seconds * 1_000_000 // self.requests)

    @cached_property
    def window_us(self) -> int:
        return self.emission_us * self.requests


@dataclass(frozen=True, eq=False)
class LimitClass:
    """What an endpoint costs: requests a minute of one user, or of one address where nobody is signed in.

    `fallback`: limited in the process while Redis is down, where other classes fall open.
    """

    name: str
    user: int
    address: int
    fallback: bool = False


@dataclass(frozen=True)
class Level:
    """One limit that a request counts against. `name` is what clients read, `key` where Redis keeps its TAT."""

    name: str
    key: str
    quota: Quota


class Standing(Enum):
    """What the copy in Redis says of a session."""

    LIVE = "live"
    REVOKED = "revoked"
    # The copy isn't known to be complete: only Postgres can tell.
    UNKNOWN = "unknown"
    # Live, and this request is the one that has the copy renewed before it runs out.
    RENEW = "renew"


class Verdict(NamedTuple):
    """`level` is the index of the one that refused (`limited`), or of the one with the least left.

    `remaining` requests are left there; `seconds` are until there is room again, or until the quota is whole.
    """

    standing: Standing
    limited: bool = False
    level: int = 0
    remaining: int = 0
    seconds: float = 0.0


class Session(Protocol):
    """What the gate must know of a caller (`identity.caller.Caller` has it all). `expires_at` is the token's end."""

    @property
    def user_id(self) -> int: ...
    @property
    def session_id(self) -> str: ...
    @property
    def token_id(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def expires_at(self) -> datetime: ...


@dataclass(frozen=True)
class SessionState:
    """What Postgres says of a session."""

    live: bool
    verified: bool


class StoreUnavailableError(Exception):
    """Redis is down, too slow or failing."""


def admit(tats: Sequence[float], levels: Sequence[Level], now: float) -> tuple[Verdict, list[float]]:
    """GCRA over all levels at once, microseconds: the verdict and the TATs after it, unchanged when one refuses."""
    after = []
    refused: Verdict | None = None
    tightest = Verdict(Standing.LIVE, remaining=1 << 62)
    for index, (tat, level) in enumerate(zip(tats, levels, strict=True)):
        quota = level.quota
        # No further ahead than a window: a clock that was set back can't lock anyone out for longer.
        ahead = min(max(tat - now, 0), quota.window_us) + quota.emission_us
        after.append(now + ahead)
        if ahead > quota.window_us:
            wait = (ahead - quota.window_us) / 1e6
            if refused is None or wait > refused.seconds:
                refused = Verdict(Standing.LIVE, True, index, 0, wait)
        else:
            remaining = int((quota.window_us - ahead) // quota.emission_us)
            if remaining < tightest.remaining:
                tightest = Verdict(Standing.LIVE, False, index, remaining, ahead / 1e6)
    return (refused, list(tats)) if refused is not None else (tightest, after)


class LocalLimiter:
    """The same limits in one process's memory, for when Redis can't keep them. Holds at most `capacity` keys."""

    def __init__(self, now: Callable[[], float], capacity: int = 10_000) -> None:
        self._now = now
        self._capacity = capacity
        self._tats: dict[str, float] = {}

    def check(self, levels: Sequence[Level]) -> Verdict:
        now = self._now() * 1e6
        verdict, tats = admit([self._tats.get(level.key, 0.0) for level in levels], levels, now)
        if not verdict.limited:
            if len(self._tats) >= self._capacity:
                self._forget_the_whole(now)
            self._tats.update(zip((level.key for level in levels), tats, strict=True))
        return verdict

    def _forget_the_whole(self, now: float) -> None:
        """Keys whose quota is whole again say nothing; were there none, the one that is whole first goes."""
        self._tats = {key: tat for key, tat in self._tats.items() if tat > now}
        while len(self._tats) >= self._capacity:
            del self._tats[min(self._tats, key=self._tats.__getitem__)]


@lru_cache(maxsize=1024)
def address_scope(address: str) -> str:
    """The part of an address that one client has to itself: IPv4 whole, of IPv6 the /64 (RFC 6177, RFC 7421)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
