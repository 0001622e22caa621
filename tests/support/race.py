"""Many people at once over the gateway: they register, cancel and accept, and remember what they were told.

Clients behave as clients should: a request that was not answered, or told to come back, is sent again under the same
Idempotency-Key until it is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from tests.support.platform import Account

CLIENTS = 64
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
ANSWERED_WITHIN_SECONDS = 120.0


@dataclass(frozen=True)
class Registered:
    """What someone was told of the registration, and between which moments it was made."""

    id: int
    status: str
    position: int | None
    sent: float
    answered: float


@dataclass
class Told:
    """What people were told, by user. `again` counts the answers that made a client send its request again."""

    registered: dict[int, Registered] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    accepted: set[int] = field(default_factory=set)
    unexpected: list[str] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)

    def lost(self, kept: Sequence[dict[str, Any]]) -> list[str]:
        """What was acknowledged and is not among the registrations that there are, of `user_id, id, status`."""
        by_user = {row["user_id"]: row for row in kept}
        found = [
            f"{user}: registered more than once" for user in by_user if sum(r["user_id"] == user for r in kept) > 1
        ]
        for user, registered in self.registered.items():
            row = by_user.get(user)
            if row is None or row["id"] != registered.id:
                found.append(f"{user}: registration {registered.id} is not there")
            elif user in self.cancelled:
                if row["status"] != "cancelled":
                    found.append(f"{user}: cancelled, and {row['status']}")
            elif (registered.status == "active" or user in self.accepted) and row["status"] != "active":
                found.append(f"{user}: had a place, and is {row['status']}")
        return found + [f"{user}: nobody asked" for user in by_user.keys() - self.registered.keys()]

    def overtaken(self, line: Sequence[int]) -> list[str]:
        """Who stands behind someone who asked only after they had been answered, in a line of users."""
        times = [(user, self.registered[user]) for user in line]
        return [
            f"{late} stands behind {early}"
            for place, (early, ahead) in enumerate(times)
            for late, behind in times[place + 1 :]
            if behind.answered < ahead.sent
        ]


class Race:
    """64 clients, each with one person after the other; `changing` scales how often they cancel and accept."""

    def __init__(
        self, gateway: str, event_id: int, people: Sequence[Account], *, seed: int = 7, changing: float = 1.0
    ) -> None:
        self.told = Told()
        self._gateway = gateway
        self._event = f"/v1/events/{event_id}/registrations"
        self._people = {person.id: person for person in people}
        self._waiting = iter(list(people))
        self._seed = seed
        self._jitter = random.Random(seed)
        self._changing = changing
        self._held_at: int | None = None
        self._going = asyncio.Event()
        self._going.set()

    def hold_at(self, number: int) -> None:
        """Once so many are registered nobody else sets out until `go_on`: what happens then happens to all at once."""
        self._held_at = number

    def go_on(self) -> None:
        self._held_at = None
        self._going.set()

    async def run(self) -> Told:
        limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
        async with (
            httpx.AsyncClient(base_url=self._gateway, timeout=32, trust_env=False, limits=limits) as http,
            asyncio.TaskGroup() as clients,
        ):
            for number in range(CLIENTS):
                clients.create_task(self._client(http, random.Random(self._seed * 100 + number)))
        return self.told

    async def register(self, http: httpx.AsyncClient, person: Account) -> None:
        sent = time.monotonic()
        answer = await self._until_answered(http, person, "POST", self._event)
        if answer.status_code != httpx.codes.CREATED:
            self.told.unexpected.append(f"registering {person.id}: {answer.status_code} {answer.text}")
            return
        made = answer.json()
        self.told.registered[person.id] = Registered(
            made["id"], made["status"], made["position"], sent, time.monotonic()
        )

    async def accept(self, http: httpx.AsyncClient, person: Account) -> None:
        answer = await self._until_answered(http, person, "POST", f"{self._event}/me/accept")
        if answer.is_success:
            self.told.accepted.add(person.id)
        elif answer.status_code not in (httpx.codes.CONFLICT, httpx.codes.NOT_FOUND):
            self.told.unexpected.append(f"accepting of {person.id}: {answer.status_code} {answer.text}")

    async def cancel(self, http: httpx.AsyncClient, person: Account) -> None:
        answer = await self._until_answered(http, person, "DELETE", f"{self._event}/me")
        if answer.is_success:
            self.told.cancelled.add(person.id)
        elif answer.status_code != httpx.codes.NOT_FOUND:
            self.told.unexpected.append(f"cancelling of {person.id}: {answer.status_code} {answer.text}")

    async def _client(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        for person in self._waiting:
            if self._held_at is not None and len(self.told.registered) >= self._held_at:
                self._going.clear()
            await self._going.wait()
            await self.register(http, person)
            if chance.random() < 0.25 * self._changing:
                await self.cancel(http, self._someone(chance))
            if chance.random() < 0.5 * self._changing:
                await self.accept(http, self._someone(chance))

    def _someone(self, chance: random.Random) -> Account:
        return self._people[chance.choice(sorted(self.told.registered))]

    async def _until_answered(self, http: httpx.AsyncClient, person: Account, method: str, path: str) -> httpx.Response:
        """Raises AssertionError when nobody answers for so long that people would give up."""
        headers = person.headers | {"Idempotency-Key": str(uuid4())}
        sent, pause = time.monotonic(), FIRST_PAUSE_SECONDS
        while time.monotonic() < sent + ANSWERED_WITHIN_SECONDS:
            refusal = "no answer"
            try:
                answer = await http.request(method, path, headers=headers)
                if not _is_to_be_sent_again(answer):
                    return answer
                refusal = f"{answer.status_code} {answer.json().get('type')}"
            except httpx.TransportError:
                pass
            self.told.again[refusal] += 1
            # Not all at the same time, again and again.
            await asyncio.sleep(pause * (1 + self._jitter.random()))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        raise AssertionError(f"{method} {path} of {person.id} was not answered: {dict(self.told.again)}")


def _is_to_be_sent_again(answer: httpx.Response) -> bool:
    """What a 5xx leaves open, and what is to be repeated shortly by its own word."""
    return answer.is_server_error or "retry-after" in answer.headers
