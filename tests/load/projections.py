"""How soon after its commit a change can be found, is pushed over a WebSocket and is published on NATS.

Events are published and registered for at a modest rate whatever the platform does (an open loop; at random moments,
for regular ones could keep step with a poll), on a platform with the demo data. A change has arrived at the moment
this process

- finds it: `GET /v1/search/events` has the event among its items. One client asks for the events not found yet, and
  again 10 ms after each answer, so that asking is a small and steady load; waiting for the answer is in the figure;
- holds the push: the frame on a WebSocket that has joined the event's room;
- holds the message: on a NATS subscription.

It left at the commit, which no client can see. Two moments enclose it, and latency is reported from both:

- the *row*: the outbox row's `occurred_at`, at which Postgres began the transaction, on the same machine's clock. The
  commit is later, so this is an upper bound: the target is held against it;
- the *answer*: this process has the response, so the commit is past. Below zero, the projection was faster.

References, sampled just before, are in `tests.load.engines_alone`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import string
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import nats
import orjson
from nats.aio.msg import Msg
from websockets.asyncio.client import ClientConnection, connect

from eventsplatform.clock import rfc3339
from tests.load.engines_alone import index_to_hit, ping_to_pong, produce_to_consume
from tests.load.http_client import HttpClient
from tests.load.platform import demo_platform
from tests.load.report import Cell, Table, Target
from tests.load.run import Run
from tests.load.samples import Summary
from tests.support.platform import Account, RunningPlatform, event_fields
from tests.support.polling import eventually_async

MAXIMUM_P95_MS = 1000.0
CHANGES_PER_SECOND = 5.0
SEARCH_EVERY_SECONDS = 0.01
SEEN_WITHIN_SECONDS = 30.0
WARM_UP = 10  # changes that are not counted: they start the functions' environments
ATTENDEES = 4  # each may register a little more often than once a second
CLIENTS = 24  # more than are ever waiting at once, unless a change takes several seconds

PUBLISHED, REGISTERED = "events.published", "registrations.created"
SEARCH, PUSH, NATS = "search hit", "WebSocket push", "NATS message"
PROJECTIONS = {PUBLISHED: (SEARCH, PUSH, NATS), REGISTERED: (PUSH, NATS)}
REFERENCES = {
    SEARCH: "OpenSearch alone: index to hit",
    PUSH: "WebSocket: ping to pong",
    NATS: "Kafka alone: produce to consume",
}


async def bench(run: Run) -> None:
    samples = 20 if run.quick else 120
    with demo_platform(run) as platform:
        organizer = platform.sign_up("Organizer")
        attendees = [platform.sign_up("Attendee") for _ in range(ATTENDEES)]
        references = {
            SEARCH: await index_to_hit(platform.endpoints["opensearch"], samples),
            PUSH: await ping_to_pong(platform.endpoints["websocket"], organizer.headers, samples),
            NATS: await produce_to_consume(platform.endpoints["kafka"], samples),
        }
        async with watching(platform, organizer) as arrivals:
            drafts = await _write_drafts(platform, organizer, arrivals, WARM_UP + samples)
            await _publish(platform, organizer, arrivals, drafts)
            await _register(platform, attendees, arrivals, drafts.starts_at)
        counted = list(drafts.starts_at)[WARM_UP:]
        run.report.add(_table(arrivals, _rows_written(platform), counted, references))


class Arrivals:
    """When each change was answered and when it was seen where, on the wall clock."""

    def __init__(self, socket: ClientConnection) -> None:
        self.answered: dict[tuple[str, int], float] = {}
        self.seen: dict[tuple[str, str, int], float] = {}
        self._socket = socket
        self._joined: set[str] = set()

    def see(self, change: str, projection: str, event_id: int) -> None:
        self.seen.setdefault((change, projection, event_id), time.time())

    def missing(self, change: str, projection: str) -> list[int]:
        """The events whose change has been answered and has not been seen there."""
        return [
            event_id
            for answered_change, event_id in self.answered
            if answered_change == change and (change, projection, event_id) not in self.seen
        ]

    async def wait_for(self, change: str, event_ids: Iterable[int]) -> None:
        """Until each projection has shown the change of each event. Raises AssertionError when one does not."""
        expected = {(change, projection, event_id) for event_id in event_ids for projection in PROJECTIONS[change]}

        async def all_seen() -> bool:
            return expected <= self.seen.keys()

        await eventually_async(all_seen, within=SEEN_WITHIN_SECONDS, what=f"each {change} everywhere")

    async def join(self, room: str) -> None:
        """Ask for the room's pushes and wait until they are granted."""
        await self._socket.send(orjson.dumps({"action": "join", "room": room}).decode())

        async def joined() -> bool:
            return room in self._joined

        await eventually_async(joined, every=0.001, what=f"the reply to join {room}")

    async def read_socket(self) -> None:
        async for text in self._socket:
            frame = orjson.loads(text)
            if frame["type"] == "message":
                self.see(frame["event"], PUSH, int(frame["room"].partition(":")[2]))
            elif frame["type"] == "joined":
                self._joined.add(frame["room"])

    async def read_nats(self, message: Msg) -> None:
        change, data = message.subject.rpartition(".")[0], orjson.loads(message.data)["data"]
        self.see(change, NATS, data["id"] if change == PUBLISHED else data["event_id"])


@asynccontextmanager
async def watching(platform: RunningPlatform, account: Account) -> AsyncIterator[Arrivals]:
    """What comes over a WebSocket of this account and over NATS while the context is open."""
    client = await nats.connect(platform.endpoints["nats"])
    async with connect(platform.endpoints["websocket"], additional_headers=account.headers) as socket:
        arrivals = Arrivals(socket)
        for change in PROJECTIONS:
            await client.subscribe(f"{change}.*", cb=arrivals.read_nats)
        reading = asyncio.create_task(arrivals.read_socket())
        try:
            yield arrivals
        finally:
            reading.cancel()
            await client.close()


@dataclass(frozen=True)
class Drafts:
    """Events to publish: all have one word in their titles that no other event has, and each starts after the last."""

    word: str
    starts_at: Mapping[int, datetime]


async def _write_drafts(platform: RunningPlatform, organizer: Account, arrivals: Arrivals, count: int) -> Drafts:
    """Drafts whose rooms are joined."""
    word = "".join(secrets.choice(string.ascii_lowercase) for _ in range(16))
    starts_at: dict[int, datetime] = {}
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    async with HttpClient(platform.endpoints["gateway"], organizer.headers) as client:
        for number in range(count):
            start = first + timedelta(minutes=number)
            times = {"starts_at": rfc3339(start), "ends_at": rfc3339(start + timedelta(hours=2))}
            answer = await client.expect(201, "POST", "/v1/events", event_fields(title=f"Concert {word}", **times))
            event_id = answer.json()["id"]
            await arrivals.join(f"event:{event_id}")
            starts_at[event_id] = start
    return Drafts(word, starts_at)


async def _publish(platform: RunningPlatform, organizer: Account, arrivals: Arrivals, drafts: Drafts) -> None:
    async def publish(client: HttpClient, event_id: int) -> None:
        await client.expect(200, "POST", f"/v1/events/{event_id}/publish")
        arrivals.answered[PUBLISHED, event_id] = time.time()

    async with asyncio.TaskGroup() as group:
        searching = group.create_task(_search(platform, arrivals, drafts))
        await _at_random_moments(platform, [organizer], drafts.starts_at, publish)
        await arrivals.wait_for(PUBLISHED, drafts.starts_at)
        searching.cancel()


async def _search(platform: RunningPlatform, arrivals: Arrivals, drafts: Drafts) -> None:
    """Ask for the published events from the first on that no search has found yet, until cancelled."""
    async with HttpClient(platform.endpoints["gateway"]) as client:
        while True:
            await asyncio.sleep(SEARCH_EVERY_SECONDS)
            missing = arrivals.missing(PUBLISHED, SEARCH)
            if missing:
                first = rfc3339(min(drafts.starts_at[event_id] for event_id in missing))
                answer = await client.request("GET", f"/v1/search/events?q={drafts.word}&from={first}&sort=date")
                # Overload is no hit: asked again, and the time counts.
                for item in answer.json()["items"] if answer.status == 200 else ():
                    arrivals.see(PUBLISHED, SEARCH, item["id"])


async def _register(
    platform: RunningPlatform, attendees: Sequence[Account], arrivals: Arrivals, event_ids: Iterable[int]
) -> None:
    async def register(client: HttpClient, event_id: int) -> None:
        await client.expect(201, "POST", f"/v1/events/{event_id}/registrations")
        arrivals.answered[REGISTERED, event_id] = time.time()

    await _at_random_moments(platform, attendees, event_ids, register)
    await arrivals.wait_for(REGISTERED, event_ids)


async def _at_random_moments(
    platform: RunningPlatform,
    accounts: Sequence[Account],
    event_ids: Iterable[int],
    change: Callable[[HttpClient, int], Awaitable[None]],
) -> None:
    """Begin one change after the other as a Poisson process, however long each takes; the first failure is raised."""
    moments = random.Random(1)
    free: asyncio.Queue[HttpClient] = asyncio.Queue()

    async def use_a_client(event_id: int) -> None:
        client = await free.get()
        await change(client, event_id)
        free.put_nowait(client)

    async with AsyncExitStack() as stack:
        for _, account in zip(range(CLIENTS), itertools.cycle(accounts), strict=False):
            client = HttpClient(platform.endpoints["gateway"], account.headers)
            free.put_nowait(await stack.enter_async_context(client))
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as group:
            for event_id in event_ids:
                await asyncio.sleep(due - loop.time())
                group.create_task(use_a_client(event_id))
                due += moments.expovariate(CHANGES_PER_SECOND)


def _rows_written(platform: RunningPlatform) -> dict[tuple[str, int], float]:
    """When Postgres began the transaction of each change, in seconds since the epoch."""
    rows = platform.sql(
        """
        SELECT type, coalesce(payload->>'event_id', payload->>'id')::bigint AS event_id, occurred_at
          FROM messaging.outbox
         WHERE type = ANY(%s)
        """,
        (list(PROJECTIONS),),
    )
    return {(row["type"], row["event_id"]): row["occurred_at"].timestamp() for row in rows}


def _table(
    arrivals: Arrivals,
    written: Mapping[tuple[str, int], float],
    event_ids: Sequence[int],
    references: Mapping[str, Summary],
) -> Table:
    rows: list[Sequence[Cell]] = []
    targets = []
    for change, projections in PROJECTIONS.items():
        for projection in projections:
            seen = {event_id: arrivals.seen[change, projection, event_id] for event_id in event_ids}
            row = Summary.of([at - written[change, event_id] for event_id, at in seen.items()])
            answer = Summary.of([at - arrivals.answered[change, event_id] for event_id, at in seen.items()])
            reference = references[projection]
            path = f"{change} to {projection}"
            figures = (row.p50, row.p95, row.maximum, answer.p50, answer.p95)
            rows.append((path, row.count, *figures, REFERENCES[projection], reference.p50, reference.p95))
            targets.append(Target(f"p95 of {path}", row.p95, MAXIMUM_P95_MS, "ms"))
    return Table(
        title="From commit to projection, in ms",
        columns=[
            "change",
            "samples",
            "row p50",
            "row p95",
            "row max",
            "answer p50",
            "answer p95",
            "reference",
            "its p50",
            "its p95",
        ],
        rows=rows,
        targets=targets,
        notes=[
            f"{CHANGES_PER_SECOND:g} changes a second on average, with the demo data loaded. "
            "row: since the outbox row's transaction began; answer: since the client had its response."
        ],
    )
