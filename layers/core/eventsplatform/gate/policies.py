"""The table of limits: which levels a request counts against, and how much each allows in a minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from eventsplatform.gate.model import Level, LimitClass, Quota

GLOBAL = Quota(60_000)
PER_ADDRESS = Quota(6_000)
PER_USER = Quota(1_200)

READ = LimitClass("read", user=1_200, address=1_200)
SEARCH = LimitClass("search", user=300, address=600)
WRITE = LimitClass("write", user=300, address=300)
# A request may write 366 events.
SERIES = LimitClass("series", user=10, address=10)
# Those who subscribe to calendars for many people come from few addresses.
FEED = LimitClass("feed", user=60, address=600)
REGISTRATION = LimitClass("registration", user=60, address=60)
EXPORT = LimitClass("export", user=10, address=10)
# What makes the platform call an address of the caller's choice.
DELIVERY = LimitClass("delivery", user=30, address=30)
ADMIN = LimitClass("admin", user=300, address=300)
SOCKET = LimitClass("socket", user=600, address=600)
# What guesses passwords or fills letter boxes stays limited while Redis is down.
SIGN_IN = LimitClass("sign_in", user=120, address=120, fallback=True)
MAIL = LimitClass("mail", user=60, address=60, fallback=True)

LIMIT_CLASSES = (READ, SEARCH, WRITE, SERIES, FEED, REGISTRATION, EXPORT, DELIVERY, ADMIN, SOCKET, SIGN_IN, MAIL)


@dataclass(frozen=True)
class Rule:
    """A level before it is known whose: `scope` says whose it will be."""

    name: str
    scope: str
    endpoint: str
    quota: Quota

    def key(self, subject: str) -> str:
        return f"ratelimit:{self.scope}:{subject}:{self.endpoint}"


@dataclass(frozen=True, eq=False)
class Policy:
    """The rules for one limit class, of a user or of an address. Made once each, so they are told apart by identity."""

    rules: tuple[Rule, ...]

    @cached_property
    def header(self) -> str:
        """RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers): a list of named quotas."""
        return ", ".join(f'"{rule.name}";q={rule.quota.requests};w={rule.quota.seconds}' for rule in self.rules)

    def keys(self, address: str, user_id: int | None) -> list[str]:
        """Where Redis keeps each rule's TAT: `ratelimit:{scope}:{id}:{endpoint}`."""
        subjects = {"global": "all", "address": address, "user": str(user_id)}
        return [rule.key(subjects[rule.scope]) for rule in self.rules]

    def levels(self, address: str, user_id: int | None) -> Sequence[Level]:
        keys = self.keys(address, user_id)
        return [Level(rule.name, key, rule.quota) for rule, key in zip(self.rules, keys, strict=True)]


@cache
def policy_for(limit_class: LimitClass, *, signed_in: bool, address_factor: int = 1) -> Policy:
    """`address_factor` multiplies what an address may: many people can share one."""
    principal = "user" if signed_in else "address"
    allowed = limit_class.user if signed_in else limit_class.address * address_factor
    rules = [
        Rule("global", "global", "all", GLOBAL),
        Rule("address", "address", "all", Quota(PER_ADDRESS.requests * address_factor)),
    ]
    if signed_in:
        rules.append(Rule("user", "user", "all", PER_USER))
    rules.append(Rule(limit_class.name, principal, limit_class.name, Quota(allowed)))
    return Policy(tuple(rules))
