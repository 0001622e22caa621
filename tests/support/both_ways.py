"""Messages in both directions: what an organiser writes goes out over NATS, and a partner's commands come in.

Each event's are in order, and each has an effect that shows whether it was had once.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import nats
from nats.errors import Error as NatsError
from nats.js.api import StreamConfig

from eventsplatform.catalog.model import EventPatch
from local.triggers.aws import aws_client
from tests.support.callers import caller
from tests.support.database import services
from tests.support.platform import Account, RunningPlatform

EVENTS = 20
WRITERS = 4
POKE_EVERY_SECONDS = 0.05
REPLIES = "REPLIES"
REPLIES_BELOW = "replies.chaos"


@dataclass
class BothWays:
    """What an organiser writes, and what a partner system has done in their name, each event's in order."""

    platform: RunningPlatform
    messages: int
    organiser: Account = field(init=False)
    outbound: list[int] = field(init=False)
    inbound: list[int] = field(init=False)
    failures: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.organiser = self.platform.sign_up()
        events = [self.platform.create_event(self.organiser, capacity=10)["id"] for _ in range(2 * EVENTS)]
        self.outbound, self.inbound = events[:EVENTS], events[EVENTS:]
        self._token = self._granted()

    @property
    def each(self) -> int:
        """How many changes of each event."""
        return self.messages // EVENTS

    @contextmanager
    def flowing(self) -> Iterator[Callable[[], bool]]:
        """Until the end of the block commits poke the relay; gives whether all has been written and sent."""
        over = threading.Event()
        threads = [
            *(threading.Thread(target=self._guarded, args=(partial(self._write, part),)) for part in range(WRITERS)),
            threading.Thread(target=self._guarded, args=(lambda: asyncio.run(self._command()),)),
        ]
        poking = threading.Thread(target=self._poke, args=(over,))
        for thread in (*threads, poking):
            thread.start()
        try:
            yield lambda: not any(thread.is_alive() for thread in threads)
        finally:
            for thread in threads:
                thread.join()
            over.set()
            poking.join()

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self.failures.append(error)

    def _write(self, part: int) -> None:
        with services(self.platform.endpoints["postgres"]) as running:
            for number in range(self.each):
                for event_id in self.outbound[part::WRITERS]:
                    patch = EventPatch(description=str(number))
                    running.catalog.change(event_id, patch, caller(self.organiser.id))

    async def _command(self) -> None:
        client = await nats.connect(self.platform.endpoints["nats"], max_reconnect_attempts=-1, reconnect_time_wait=0.2)
        stream = client.jetstream()
        await _told(partial(stream.add_stream, StreamConfig(name=REPLIES, subjects=[f"{REPLIES_BELOW}.>"])))
        await asyncio.gather(*(self._command_event(stream, event_id) for event_id in self.inbound))
        await client.close()

    async def _command_event(self, stream: Any, event_id: int) -> None:
        """Every other command changes the event, and those between make another one each."""
        for number in range(self.each):
            name = f"{event_id}-{number}"
            changes = {"event_id": event_id, "changes": {"description": str(number)}}
            kind, data = ("update", changes) if number % 2 == 0 else ("create", {"event": self._draft(name)})
            command = {
                "specversion": "1.0",
                "id": name,
                "source": "/partners/chaos",
                "type": f"inbound.events.{kind}",
                "replyto": f"{REPLIES_BELOW}.{name}",
                "data": {"token": self._token, **data},
            }
            subject = f"inbound.events.{kind}.{event_id}"
            content = json.dumps(command).encode()
            await _told(partial(stream.publish, subject, content, timeout=2, headers={"Nats-Msg-Id": name}))

    def _draft(self, name: str) -> dict[str, Any]:
        return {
            "title": f"chaos {name}",
            "starts_at": "2035-06-01T19:00:00Z",
            "ends_at": "2035-06-01T22:00:00Z",
            "location": {"name": "Berlin"},
            "capacity": 10,
            "category": "music",
        }

    def _poke(self, over: threading.Event) -> None:
        """What each commit of a function does."""
        url = f"{self.platform.endpoints['aws']}/2015-03-31/functions/RelayOutboxFunction/invocations"
        with httpx.Client(trust_env=False, headers={"X-Amz-Invocation-Type": "Event"}) as client:
            while not over.wait(POKE_EVERY_SECONDS):
                client.post(url, json={})

    def _granted(self) -> str:
        grant = {"partner": "chaos", "email": self.organiser.email, "commands": ["events.create", "events.update"]}
        answer = aws_client("lambda", self.platform.endpoints["aws"]).invoke(
            FunctionName="ManagePartnersFunction", Payload=json.dumps({"grant": grant | {"days": 1}}).encode()
        )
        token: str = json.loads(answer["Payload"].read())["token"]
        self.platform.used_secrets.add("partner token", token)
        return token

    # What is to come of it.

    def wrong_effects(self) -> list[str]:
        """What has not happened, or happened more than once or in another order, of what was commanded and written."""
        found = []
        changes = defaultdict(list)
        for row in self.platform.sql(
            """
            SELECT aggregate_id, payload ->> 'description' AS description FROM messaging.outbox
             WHERE type = 'events.updated' AND aggregate_id = ANY(%s) ORDER BY version
            """,
            (self.outbound + self.inbound,),
        ):
            changes[row["aggregate_id"]].append(row["description"])
        for events, step in ((self.outbound, 1), (self.inbound, 2)):
            wanted = [str(number) for number in range(0, self.each, step)]
            found += [
                f"event {event} was changed {len(changes[event])} times, and should {len(wanted)} times in order"
                for event in events
                if changes[event] != wanted
            ]
        titles = Counter(row["title"] for row in self.platform.sql("SELECT title FROM catalog.events"))
        names = [f"chaos {event}-{number}" for event in self.inbound for number in range(1, self.each, 2)]
        found += [f"{name!r} was made {titles[name]} times" for name in names if titles[name] != 1]
        return found[:10]

    def made(self) -> int:
        """How many events commands have made."""
        (row,) = self.platform.sql("SELECT count(*) AS made FROM catalog.events WHERE title LIKE 'chaos %%'")
        return int(row["made"])

    def repeated(self) -> list[str]:
        """Events that were made more than once by one command."""
        return [
            row["title"]
            for row in self.platform.sql(
                "SELECT title FROM catalog.events WHERE title LIKE 'chaos %%' GROUP BY title HAVING count(*) > 1"
            )
        ]

    def unanswered(self) -> list[str]:
        """Commands without an answer, or with another one than that they were carried out."""
        answers = asyncio.run(_answers(self.platform.endpoints["nats"]))
        names = [f"{event}-{number}" for event in self.inbound for number in range(self.each)]
        return [f"{name}: {answers.get(name)}" for name in names if answers.get(name) != {"commands.succeeded"}][:10]

    def out_of_order(self) -> list[str]:
        """Events of which NATS stored a later version before an earlier one."""
        versions = defaultdict(list)
        for message in self.platform.nats_messages("events.updated.>"):
            versions[message.subject].append(message.data["sequence"])
        return [subject for subject, numbers in versions.items() if numbers != sorted(numbers)]


async def _told(publish: Callable[[], Awaitable[object]]) -> None:
    """Again and again until JetStream has confirmed it, as a careful client does."""
    while True:
        try:
            await publish()
            return
        except (NatsError, OSError, TimeoutError):
            await asyncio.sleep(0.2)


async def _answers(url: str) -> Mapping[str, set[str]]:
    """The types of the answers, by the command's id."""
    client = await nats.connect(url, connect_timeout=5, allow_reconnect=False)
    try:
        stream = client.jetstream()
        found: defaultdict[str, set[str]] = defaultdict(set)
        if (await stream.stream_info(REPLIES)).state.messages == 0:
            return found
        subscription = await stream.subscribe(f"{REPLIES_BELOW}.>", stream=REPLIES, ordered_consumer=True)
        while True:
            message = await subscription.next_msg(timeout=5)
            answer = json.loads(message.data)
            found[answer["data"]["command"]["id"]].add(answer["type"])
            if message.metadata.num_pending == 0:
                return found
    finally:
        await client.close()


async def publish(url: str, subject: str, contents: Iterable[bytes]) -> None:
    """Have the stream that listens to a subject store these."""
    client = await nats.connect(url, connect_timeout=5)
    stream = client.jetstream()
    for content in contents:
        await _told(partial(stream.publish, subject, content, timeout=2))
    await client.close()
