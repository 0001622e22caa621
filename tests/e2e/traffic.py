"""People who use the platform while something happens to it, and remember what it has promised them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from tests.support.platform import Account, RunningPlatform, event_fields
from tests.support.polling import eventually

PAUSE_SECONDS = 0.02


class Traffic:
    """One organiser after the other publishes an event, which everyone registers for. Refused requests are repeated.

    `answers` counts the status codes, with the connections that broke under 0.
    """

    def __init__(self, platform: RunningPlatform, people: Sequence[Account]) -> None:
        self.answers: Counter[int] = Counter()
        self.failures: list[str] = []
        """Answers that no client should ever get, with their bodies."""
        self.registrations: set[int] = set()
        """The ids of all acknowledged registrations."""
        self.published: set[int] = set()
        """The ids of all events whose publication was acknowledged."""
        self._people = people
        self._client = httpx.Client(base_url=platform.endpoints["gateway"], timeout=32, trust_env=False)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")

    def flows(self, *, requests: int = 15, within: float = 40.0) -> None:
        """Return when so many more writes have been acknowledged."""
        wanted = self._acknowledged + requests
        eventually(lambda: self._acknowledged >= wanted, within=within, what=f"{requests} acknowledged writes")

    @property
    def _acknowledged(self) -> int:
        return len(self.registrations) + len(self.published)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the request in progress end."""
        self._stopping.set()
        self._thread.join()
        self._client.close()

    def lost(self, platform: RunningPlatform) -> list[str]:
        """What was acknowledged and Postgres does not have."""
        registrations = {row["id"] for row in platform.sql("SELECT id FROM registrations.event_registrations")}
        published = {row["id"] for row in platform.sql("SELECT id FROM catalog.events WHERE status = 'published'")}
        return [
            *(f"registration {each}" for each in sorted(self.registrations - registrations)),
            *(f"event {each}" for each in sorted(self.published - published)),
        ]

    def _run(self) -> None:
        while not self._stopping.is_set():
            for organiser in self._people:
                self._one_event(organiser)

    def _one_event(self, organiser: Account) -> None:
        event = self._until_answered("/v1/events", organiser, event_fields(capacity=3))
        if event is None:
            return
        # A conflict says that an earlier attempt, whose answer was lost, has done it.
        self._until_answered(f"/v1/events/{event['id']}/publish", organiser)
        for person in self._people:
            self._until_answered(f"/v1/events/{event['id']}/registrations", person)

    def _until_answered(self, path: str, who: Account, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """What a write answers, once it is taken; None for a conflict, or when the traffic ends before."""
        while not self._stopping.wait(PAUSE_SECONDS):
            try:
                answer = self._client.post(path, headers=who.headers, json=body)
            except httpx.TransportError as error:
                self.answers[0] += 1
                self.failures.append(repr(error))
                continue
            if answer.status_code == 429:  # too quick for a limit, and comes back when told to
                self._stopping.wait(float(answer.headers["retry-after"]))
                continue
            self.answers[answer.status_code] += 1
            if answer.is_success:
                result: dict[str, Any] = answer.json()
                if path.endswith("/registrations"):
                    self.registrations.add(result["id"])
                elif path.endswith("/publish"):
                    self.published.add(result["id"])
                return result
            if answer.status_code == 409:
                return None
            if answer.status_code != 503 or "retry-after" not in answer.headers:
                self.failures.append(f"{path}: {answer.status_code} {answer.text}")
        return None


@contextmanager
def traffic(platform: RunningPlatform, people: Sequence[Account]) -> Iterator[Traffic]:
    """Traffic while the context is open, already flowing on entry."""
    running = Traffic(platform, people)
    running.start()
    try:
        running.flows()
        yield running
    finally:
        running.stop()
