"""Whether all engines tell the same history: Postgres, and everything that is projected from it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from tests.support.platform import RunningPlatform
from tests.support.polling import eventually

# The index keeps far fewer than it hands out at once in these tests.
EVERYTHING = 10_000


@dataclass(frozen=True)
class History:
    """What each engine holds. Counts of an event are the pair registered, waitlisted."""

    pending: int
    """Changes in the outbox that no broker has acknowledged."""
    changes: Counter[str]
    """Message ids of all changes, from the outbox."""
    told: Counter[str]
    """Message ids in the NATS stream."""
    published: Mapping[int, int]
    """The version of each event that is no draft, from the catalog."""
    indexed: Mapping[int, int]
    """The version of each event in the search index."""
    counted: Mapping[int, tuple[int, int]]
    """The counts of each event that anyone registered for, recounted from the registrations."""
    shown: Mapping[int, tuple[int, int]]
    """The counts of the same events, as the catalog shows them."""

    def differences(self) -> list[str]:
        """A line for each way in which a projection is not what Postgres says."""
        found = {
            "pending in the outbox": [self.pending] if self.pending else [],
            "never told over NATS": sorted(self.changes - self.told),
            "told over NATS more than once, or made up": sorted(self.told - self.changes),
            "missing or outdated in the index": sorted(self.published.items() - self.indexed.items()),
            "in the index alone": sorted(self.indexed.keys() - self.published.keys()),
            "counts that a recount does not give": sorted(self.shown.items() - self.counted.items()),
        }
        return [f"{what}: {examples[:5]} of {len(examples)}" for what, examples in found.items() if examples]


def history_of(platform: RunningPlatform) -> History:
    """Read all engines; the platform should be at rest, or they are read at different moments."""
    changes = platform.sql(
        "SELECT aggregate_type, aggregate_id, version, published_at IS NULL AS pending FROM messaging.outbox"
    )
    counts = platform.sql(
        """
        SELECT event.id, event.registered, event.waitlisted,
               count(*) FILTER (WHERE registration.status IN ('active', 'offered', 'checked_in')) AS active,
               count(*) FILTER (WHERE registration.status = 'waitlisted') AS waiting
          FROM catalog.events AS event
          JOIN registrations.event_registrations AS registration ON registration.event_id = event.id
         GROUP BY event.id
        """
    )
    return History(
        pending=sum(change["pending"] for change in changes),
        changes=Counter(f"{each['aggregate_type']}-{each['aggregate_id']}-{each['version']}" for each in changes),
        told=Counter(message.data["id"] for message in platform.nats_messages()),
        published={
            row["id"]: row["version"]
            for row in platform.sql("SELECT id, version FROM catalog.events WHERE status <> 'draft'")
        },
        indexed=_indexed(platform.endpoints["opensearch"]),
        counted={row["id"]: (row["active"], row["waiting"]) for row in counts},
        shown={row["id"]: (row["registered"], row["waitlisted"]) for row in counts},
    )


def converged(platform: RunningPlatform, *, within: float = 45.0) -> tuple[History, float]:
    """The history once all engines agree on it, and the seconds that took. Raises AssertionError when they do not."""
    began = time.monotonic()
    history: History | None = None

    def agrees() -> bool:
        nonlocal history
        history = history_of(platform)
        if differences := history.differences():
            raise AssertionError("; ".join(differences))
        return True

    eventually(agrees, within=within, every=0.25, what="agreement of all engines")
    assert history is not None
    return history, time.monotonic() - began


def _indexed(opensearch: str) -> dict[int, int]:
    with httpx.Client(base_url=opensearch, timeout=10, trust_env=False) as client:
        client.post("/events/_refresh").raise_for_status()
        body = {"query": {"match_all": {}}, "size": EVERYTHING, "_source": ["source"]}
        answer = client.post("/events/_search", json=body).raise_for_status().json()
    hits = [hit["_source"]["source"] for hit in answer["hits"]["hits"]]
    assert len(hits) == answer["hits"]["total"]["value"], "more documents than one search gives"
    return {hit["id"]: hit["version"] for hit in hits}
