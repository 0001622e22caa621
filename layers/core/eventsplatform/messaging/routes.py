"""Which messages cross between Kafka and NATS, and as what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

from eventsplatform.errors import PoisonMessageError
from eventsplatform.messaging.envelope import Message
from eventsplatform.messaging.subjects import Lookup, Pattern, Template

# A message that has crossed more often goes round, whatever it says where it came from.
MOST_HOPS = 4

KNOWN_MAXIMUM = 1_000

# What a template can name of a message, beside `extension.<name>`.
ATTRIBUTES = {
    f"message.{name}": attrgetter(name)
    for name in ("id", "source", "type", "subject", "time", "partitionkey", "sequence", "traceparent")
}


@dataclass(frozen=True)
class Stream:
    """A JetStream stream as the platform makes it. Everything it keeps, it keeps for `max_age_seconds`."""

    name: str
    subjects: tuple[Pattern, ...]
    max_age_seconds: int
    duplicate_window_seconds: int
    max_message_bytes: int

    def takes(self, subject: str) -> bool:
        return self._expression.fullmatch(subject) is not None

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile("|".join(pattern.expression.pattern for pattern in self.subjects))


@dataclass(frozen=True)
class ToNats:
    """From a topic, where the type matches, to a subject of a stream."""

    name: str
    topics: frozenset[str]
    type: Pattern
    stream: Stream
    subject: Template
    headers: Mapping[str, Template]


@dataclass(frozen=True)
class FromNats:
    """From the subjects of a stream that match to a topic. `shard` names the one consumer that reads them."""

    name: str
    shard: str
    stream: Stream
    subject: Pattern
    topic: str
    type: Template
    key: Template
    headers: Mapping[str, Template]


@dataclass(frozen=True)
class Shard:
    """What one durable consumer reads, in order."""

    name: str
    stream: Stream
    routes: tuple[FromNats, ...]

    @property
    def filters(self) -> list[str]:
        """The subjects, without those that another one covers: NATS takes no filters that overlap."""
        patterns = [route.subject for route in self.routes]
        return [
            pattern.subject
            for number, pattern in enumerate(patterns)
            if not any(
                other.covers(pattern) and (not pattern.covers(other) or earlier < number)
                for earlier, other in enumerate(patterns)
                if earlier != number
            )
        ]

    def route(self, subject: str) -> tuple[FromNats, dict[str, str]]:
        """The first route that takes the subject, and what its wildcards stand for. Raises PoisonMessageError."""
        for route in self.routes:
            if (captures := route.subject.match(subject)) is not None:
                return route, captures
        raise PoisonMessageError(f"no route takes the subject {subject[:200]!r}")


@dataclass(frozen=True)
class Routes:
    """`platform` is what the bridge is called in `via`."""

    platform: str
    streams: Mapping[str, Stream]
    to_nats: tuple[ToNats, ...]
    from_nats: tuple[FromNats, ...]

    def route(self, topic: str, message_type: str) -> tuple[ToNats, Mapping[str, str]]:
        """The first route that takes such messages, and what its wildcards stand for. Raises PoisonMessageError."""
        known = self._known.get((topic, message_type))
        if known is None:
            if len(self._known) >= KNOWN_MAXIMUM:
                self._known.clear()
            known = self._known[topic, message_type] = self._find(topic, message_type)
        return known

    def _find(self, topic: str, message_type: str) -> tuple[ToNats, Mapping[str, str]]:
        for route in self.to_nats:
            if topic in route.topics and (captures := route.type.match(message_type)) is not None:
                return route, captures
        raise PoisonMessageError(f"no route takes {message_type[:200]!r} of {topic}")

    @cached_property
    def _known(self) -> dict[tuple[str, str], tuple[ToNats, Mapping[str, str]]]:
        """What was found, for types are few."""
        return {}

    @cached_property
    def shards(self) -> Sequence[Shard]:
        by_name: dict[str, list[FromNats]] = {}
        for route in self.from_nats:
            by_name.setdefault(route.shard, []).append(route)
        return [Shard(name, routes[0].stream, tuple(routes)) for name, routes in by_name.items()]

    def is_loop(self, message: Message) -> bool:
        """Whether the message comes round: it crossed here before, or more often than any way is long."""
        return message.hops > MOST_HOPS or self.platform in message.via.split(",")

    def mark(self, message: Message) -> dict[str, Any]:
        """The attributes of the message that say that it crossed here."""
        via = f"{message.via},{self.platform}" if message.via else self.platform
        return {"via": via, "hops": message.hops + 1}


def values_of(message: Message, captures: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Lookup:
    """What the names of a template stand for: captures, `message.…`, `extension.…` and `header.…`."""

    def lookup(name: str) -> str:
        if (captured := captures.get(name)) is not None:
            return captured
        if (attribute := ATTRIBUTES.get(name)) is not None:
            return str(attribute(message))
        kind, _, rest = name.partition(".")
        if kind == "extension":
            return str(message.extensions.get(rest, ""))
        return (headers or {}).get(rest, "")

    return lookup


def unknown_names(template: Template, captures: Iterable[str | None], *, headers: bool) -> list[str]:
    """Names in the template that nothing has."""
    known = {*captures, *ATTRIBUTES}
    prefixes = ("extension.", "header.") if headers else ("extension.",)
    return [
        name
        for placeholder in template.placeholders
        for name in placeholder.names
        if name not in known and not name.startswith(prefixes)
    ]
