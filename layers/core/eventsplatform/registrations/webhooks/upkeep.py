"""What webhooks leave behind: old deliveries go, and secrets move to the key that is active."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from eventsplatform.clock import Clock
from eventsplatform.messaging.model import Work
from eventsplatform.registrations.webhooks.deliveries import KEPT
from eventsplatform.registrations.webhooks.service import STEP, Seals

RESEALED_AT_ONCE = 100


class KeyedSeals(Seals, Protocol):
    def active_prefix(self) -> str:
        """How those begin that are sealed with the active key."""


class UpkeepStore(Protocol):
    def clear_old(self, before: datetime, limit: int) -> int: ...

    def sealed_otherwise(self, prefix: str, limit: int) -> list[tuple[int, str]]:
        """Secrets that do not begin so, each with its id."""

    def reseal(self, secret_id: int, before: str, after: str) -> None:
        """Unless it has been replaced meanwhile."""


class WebhookUpkeep:
    def __init__(self, work: Work[UpkeepStore], seals: KeyedSeals, clock: Clock) -> None:
        self._work = work
        self._seals = seals
        self._clock = clock

    def run(self) -> dict[str, int]:
        """A step of it; what is left is for the next minute."""
        prefix = self._seals.active_prefix()
        with self._work.statement() as store:
            cleared = store.clear_old(self._clock() - KEPT, STEP)
            outdated = store.sealed_otherwise(prefix, RESEALED_AT_ONCE)
        resealed = [(id_, sealed, self._seals.seal(self._seals.open(sealed))) for id_, sealed in outdated]
        with self._work.statement() as store:
            for secret_id, before, after in resealed:
                store.reseal(secret_id, before, after)
        return {"cleared": cleared, "resealed": len(resealed)}
