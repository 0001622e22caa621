"""Sending messages again: those of a time or of one aggregate from the event store, or dead letters.

A replay keeps source and id of each message and adds an id of its own (`replayid`), so that what drops duplicates lets
it through, once: sent again under the same replay id it is dropped. So a replay that was interrupted is simply repeated
under its id, from where it was or from the beginning. It may be for one consumer group (`replayfor`); consumers that
notify leave it out unless it says otherwise (`replaynotify`).
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol, Self, get_args

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from eventsplatform.clock import Clock
from eventsplatform.errors import DependencyUnavailableError, PoisonMessageError
from eventsplatform.merge_patch import merge_patch
from eventsplatform.messaging import schemas
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.model import INBOUND_TOPIC, TOPICS, topic_of
from eventsplatform.messaging.relay import PendingChange

# How many messages one call sends, and how many ids of the event store it looks through for them.
PAGE = 1_000
LOOKED_THROUGH = 20_000

Topic = Literal[
    "evp.events.v1",
    "evp.registrations.v1",
    "evp.users.v1",
    "evp.curation.v1",
    "evp.analytics.v1",
    "evp.recommendations.v1",
]
AggregateType = Literal["event", "registration", "user"]
Group = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,99}$")]

_ORIGIN = re.compile(r"(?P<topic>.+)-\d+@\d+")


class Aggregate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: AggregateType
    id: int


class ReplayRequest(BaseModel):
    """What to send again: one of `topic`, `aggregate` and `dead_letters` (a consumer group, whose they are).

    `after` is where the call before this one has come to, and `replay_id` and `until` are those of the first one.
    """

    model_config = ConfigDict(extra="forbid")

    topic: Topic | None = None
    aggregate: Aggregate | None = None
    dead_letters: Group | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    consumer: Group | None = Field(default=None, description="For this group alone.")
    notify: bool = Field(default=False, description="For consumers that notify people and other systems, too.")
    letters: list[Annotated[str, Field(pattern=r"^\d+@\d+$")]] = Field(
        default=[], max_length=100, description="These dead letters alone, by partition and offset."
    )
    patch: dict[str, Any] | None = Field(default=None, description="A merge patch (RFC 7396) that repairs them.")
    replay_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    after: dict[str, int] = {}
    dry_run: bool = False

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if sum(each is not None for each in (self.topic, self.aggregate, self.dead_letters)) != 1:
            raise ValueError("one of topic, aggregate and dead_letters")
        if self.topic is not None and self.since is None:
            raise ValueError("a topic is replayed since a time")
        if self.dead_letters is None and (self.letters or self.patch is not None):
            raise ValueError("letters and patch are for dead letters")
        if self.dead_letters is not None and self.consumer is not None:
            raise ValueError("dead letters are for the group that put them aside")
        return self


class Unfit(BaseModel):
    """A dead letter that would only be put aside again."""

    letter: str
    origin: str
    reason: str


class ReplayPage(BaseModel):
    """What one call has sent (or would have). `after` is for the next call; None when there is nothing left."""

    replay_id: str
    until: datetime
    sent: int
    types: dict[str, int]
    unfit: list[Unfit] = []
    after: dict[str, int] | None


@dataclass(frozen=True)
class DeadLetter:
    """A record of a dead-letter topic: what came, and what is known of it."""

    partition: int
    offset: int
    put_aside_at: datetime
    key: bytes | None
    value: bytes | None
    origin: str
    redacted: bool

    @property
    def place(self) -> str:
        return f"{self.partition}@{self.offset}"


@dataclass(frozen=True)
class Sending:
    """A message on its way to a topic, under the key that it had."""

    topic: str
    key: str | bytes | None
    message: Message


class EventStore(Protocol):
    """What was published, as the outbox keeps it. What is not yet will come by itself."""

    def ids_between(self, since: datetime, until: datetime) -> tuple[int, int] | None:
        """The first and the last id of a time; None when nothing happened in it."""

    def published_between(
        self, domain: str, first: int, last: int, since: datetime, until: datetime, limit: int
    ) -> list[PendingChange]:
        """Changes of a domain in the order of their ids, which is that of the versions of each aggregate."""

    def published_of(self, aggregate: Aggregate, after_version: int, limit: int) -> list[PendingChange]: ...


class DeadLetterTopics(Protocol):
    def read(self, group: str, after: Mapping[int, int], limit: int) -> tuple[list[DeadLetter], dict[int, int], bool]:
        """Letters behind an offset of each partition, where that leads to, and whether it is the end."""


Send = Callable[[Sequence[Sending]], list[bool]]


class Replay:
    def __init__(self, store: EventStore, dead_letters: DeadLetterTopics, send: Send, clock: Clock) -> None:
        self._store = store
        self._dead_letters = dead_letters
        self._send = send
        self._clock = clock

    def run(self, request: ReplayRequest) -> ReplayPage:
        """Send the next page. Raises DependencyUnavailableError when not all of it was taken: send it again."""
        replay_id, until = request.replay_id or uuid.uuid4().hex, request.until or self._clock()
        unfit: list[Unfit] = []
        if request.dead_letters is not None:
            sendings, unfit, after = self._letters(request, until)
            marks: dict[str, Any] = {"replayfor": request.dead_letters, "replaynotify": True}
        else:
            changes, after = self._of_topic(request, until) if request.topic else self._of_aggregate(request)
            sendings = [_sending(change) for change in changes]
            marks = {"replayfor": request.consumer} if request.consumer else {}
            marks |= {"replaynotify": True} if request.notify else {}
        if not request.dry_run:
            self._send_all([_marked(each, {"replayid": replay_id, **marks}) for each in sendings])
        types = Counter(each.message.type for each in sendings)
        return ReplayPage(
            replay_id=replay_id, until=until, sent=len(sendings), types=dict(types), unfit=unfit, after=after
        )

    def _of_topic(self, request: ReplayRequest, until: datetime) -> tuple[list[PendingChange], dict[str, int] | None]:
        assert request.topic is not None
        assert request.since is not None
        if "id" in request.after:
            after, last = request.after["id"], request.after["last"]
        else:
            bounds = self._store.ids_between(request.since, until)
            if bounds is None:
                return [], None
            after, last = bounds[0] - 1, bounds[1]
        end = min(after + LOOKED_THROUGH, last)
        found = self._store.published_between(_domain_of(request.topic), after + 1, end, request.since, until, PAGE)
        reached = found[-1].id if len(found) == PAGE else end
        return found, {"id": reached, "last": last} if reached < last else None

    def _of_aggregate(self, request: ReplayRequest) -> tuple[list[PendingChange], dict[str, int] | None]:
        assert request.aggregate is not None
        found = self._store.published_of(request.aggregate, request.after.get("version", 0), PAGE)
        return found, {"version": found[-1].version} if len(found) == PAGE else None

    def _letters(
        self, request: ReplayRequest, until: datetime
    ) -> tuple[list[Sending], list[Unfit], dict[str, int] | None]:
        assert request.dead_letters is not None
        after = {int(partition): offset for partition, offset in request.after.items()}
        letters, reached, is_end = self._dead_letters.read(request.dead_letters, after, PAGE)
        sendings: list[Sending] = []
        unfit: list[Unfit] = []
        for letter in letters:
            if request.letters and letter.place not in request.letters:
                continue
            if letter.put_aside_at >= until or (request.since is not None and letter.put_aside_at < request.since):
                continue
            try:
                sendings.append(_repaired(letter, request.patch))
            except PoisonMessageError as error:
                unfit.append(Unfit(letter=letter.place, origin=letter.origin, reason=error.detail))
        return sendings, unfit, None if is_end else {str(number): offset for number, offset in reached.items()}

    def _send_all(self, sendings: Sequence[Sending]) -> None:
        if not all(self._send(sendings)):
            raise DependencyUnavailableError("message broker")


def _domain_of(topic: str) -> str:
    return next(domain for domain, name in TOPICS.items() if name == topic)


def _sending(change: PendingChange) -> Sending:
    message = change.to_message()
    return Sending(topic_of(change.type), message.partitionkey, message)


def _marked(sending: Sending, marks: Mapping[str, Any]) -> Sending:
    message = dataclasses.replace(sending.message, extensions={**sending.message.extensions, **marks})
    return dataclasses.replace(sending, message=message)


def _repaired(letter: DeadLetter, patch: Mapping[str, Any] | None) -> Sending:
    """Raises PoisonMessageError for a letter that is not sound by now."""
    origin = _ORIGIN.fullmatch(letter.origin)
    if origin is None or origin["topic"] not in (*get_args(Topic), INBOUND_TOPIC):
        raise PoisonMessageError("it is of no topic that messages are replayed to")
    if letter.redacted and patch is None:
        raise PoisonMessageError("its token was taken out: its sender has to send it again")
    text = letter.value or b""
    if patch is not None:
        try:
            text = orjson.dumps(merge_patch(orjson.loads(text), patch))
        except (orjson.JSONDecodeError, TypeError) as error:
            raise PoisonMessageError(f"not JSON that could be patched: {error}") from error
    message = Message.from_json(text)
    schemas.check(message)
    return Sending(origin["topic"], letter.key, message)
