"""Slowing down who guesses passwords: waits that grow with the failures, per account and network, account, network.

A guesser may have many addresses, so an account has a count of its own; and it must not become a way to keep the
owner out, so where the owner has signed in before (`known`) only the account's failures from there count. A reset by
mail makes a network known, too. All of it goes for addresses without an account as well, or the waits would tell.

Every attempt is counted as a failure before the password is looked at, and forgiven when it was right: of many
attempts at once no more pass than of as many in a row.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from eventsplatform.errors import RateLimitedError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class BackOff:
    """`free` failures, then a wait of `first_seconds` that doubles with each further one, up to the longest."""

    free: int
    first_seconds: float = 1.0
    longest_seconds: float = 900.0

    def wait_after(self, failures: int) -> float:
        """Seconds until the next attempt after so many failures in a row."""
        if failures < self.free:
            return 0.0
        return min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - self.free, 60))


# Failures are forgotten when none has come for so long.
FORGOTTEN_AFTER_SECONDS = 3_600

PER_ACCOUNT_AND_NETWORK = BackOff(free=5)
# A shorter one: it also meets an owner who is somewhere new.
PER_ACCOUNT = BackOff(free=5, longest_seconds=60.0)
# Many people can share an address, and mistype.
PER_NETWORK = BackOff(free=20)


@dataclass(frozen=True)
class Counter:
    """Where failures are counted, and how long they make wait."""

    key: str
    back_off: BackOff


@dataclass(frozen=True)
class Attempt:
    """One that was let through: the counters and what each came to with it."""

    counters: Sequence[Counter]
    failures: Sequence[int]


class AttemptsUnavailableError(Exception):
    """The store of attempts is down or too slow."""


class Attempts(Protocol):
    """Where failures are counted. Raises AttemptsUnavailableError."""

    def begin(self, counters: Sequence[Counter]) -> Attempt | float:
        """Count a failure everywhere; or the seconds to wait where one of the counters refuses, and count nothing."""

    def forgive(self, attempt: Attempt) -> None:
        """The attempt was none: the first counter starts anew, from the others it is taken back."""


class SignInLimits:
    def __init__(
        self, attempts: Attempts, fallback: Attempts, monotonic: Callable[[], float], *, network_factor: int = 1
    ) -> None:
        """`fallback` counts in this process alone, while `attempts` is unavailable."""
        self._attempts = attempts
        self._fallback = fallback
        self._monotonic = monotonic
        self._retry_at = -math.inf
        self._per_network = BackOff(free=PER_NETWORK.free * network_factor)

    def begin(self, email: str, address: str, *, known: bool) -> Attempt:
        """Count an attempt before the password is looked at. Raises RateLimitedError."""
        account, network = account_key(email), network_of(address)
        counters = [Counter(f"ratelimit:account:{account}:sign_in:{network}", PER_ACCOUNT_AND_NETWORK)]
        if not known:
            counters += [
                Counter(f"ratelimit:account:{account}:sign_in", PER_ACCOUNT),
                Counter(f"ratelimit:address:{network}:sign_in_failures", self._per_network),
            ]
        answer = self._with_fallback(lambda attempts: attempts.begin(counters))
        if isinstance(answer, Attempt):
            return answer
        wait = math.ceil(answer)
        raise RateLimitedError(
            f"Too many attempts to sign in; try again in {wait} second{'s' if wait != 1 else ''}.",
            retry_after_seconds=wait,
        )

    def forgive(self, attempt: Attempt) -> None:
        """The password was right."""
        self._with_fallback(lambda attempts: attempts.forgive(attempt))

    def _with_fallback(self, ask: Callable[[Attempts], Answer]) -> Answer:
        if self._monotonic() >= self._retry_at:
            try:
                return ask(self._attempts)
            except AttemptsUnavailableError:
                self._retry_at = self._monotonic() + 1.0
        return ask(self._fallback)


class AttemptsInMemory:
    """Counts in one process, of at most `capacity` keys."""

    def __init__(self, monotonic: Callable[[], float], capacity: int = 10_000) -> None:
        self._monotonic = monotonic
        self._capacity = capacity
        # Failures, when the next attempt may come, when all is forgotten: the longest unused first.
        self._counts: OrderedDict[str, tuple[int, float, float]] = OrderedDict()

    def begin(self, counters: Sequence[Counter]) -> Attempt | float:
        now = self._monotonic()
        counts = [self._current(counter.key, now) for counter in counters]
        wait = max(until - now for _, until in counts)
        if wait > 0:
            return wait
        failures = [count + 1 for count, _ in counts]
        for counter, count in zip(counters, failures, strict=True):
            self._counts[counter.key] = (
                count,
                now + counter.back_off.wait_after(count),
                now + FORGOTTEN_AFTER_SECONDS,
            )
            self._counts.move_to_end(counter.key)
        while len(self._counts) > self._capacity:
            self._counts.popitem(last=False)
        return Attempt(counters, failures)

    def forgive(self, attempt: Attempt) -> None:
        own, *others = zip(attempt.counters, attempt.failures, strict=True)
        self._counts.pop(own[0].key, None)
        for counter, counted in others:
            if counter.key in self._counts:
                count, until, forgotten = self._counts[counter.key]
                self._counts[counter.key] = (max(count - 1, 0), -math.inf if count == counted else until, forgotten)

    def _current(self, key: str, now: float) -> tuple[int, float]:
        count, until, forgotten = self._counts.get(key, (0, -math.inf, -math.inf))
        return (count, until) if forgotten > now else (0, -math.inf)


def account_key(email: str) -> str:
    """Stands for an address in keys: nobody who reads them learns it. Like the database, it knows no letter case."""
    return hashlib.sha256(email.lower().encode()).hexdigest()[:32]


def network_of(address: str) -> str:
    """What one client has to itself, in CIDR notation: an IPv4 address, the /64 of an IPv6 address (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "0.0.0.0/32"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
        parsed = parsed.ipv4_mapped
    return f"{parsed}/32"
