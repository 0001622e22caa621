"""The one message envelope: CloudEvents 1.0 in structured JSON, mirrored in `ce_*` Kafka headers.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md. Structured, because event source
mappings filter on the value alone and the NATS binding knows no other mode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from eventsplatform.errors import PoisonMessageError

T = TypeVar("T")

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/cloudevents+json"
_DATA_SCHEMA = re.compile(r"urn:events-platform:message:.*:v([1-9][0-9]{0,8})", re.DOTALL)
_REQUIRED = ("specversion", "id", "source", "type")
_FIELDS = frozenset(
    {*_REQUIRED, "subject", "time", "datacontenttype", "partitionkey", "sequence", "traceparent", "via", "hops", "data"}
)
_OWN = _FIELDS | {"dataschema"}
_MIRRORED = {
    name: f"ce_{name}"
    for name in ("id", "source", "type", "subject", "time", "partitionkey", "traceparent", "sequence", "via", "hops")
} | {"replayid": "ce_replayid"}


def data_schema(message_type: str, version: int) -> str:
    """The name of the schema of our own messages; those of others may name schemas of theirs."""
    return f"urn:events-platform:message:{message_type}:v{version}"


def mirrored(envelope: Mapping[str, Any]) -> dict[str, str]:
    """What of an envelope stands in Kafka's headers as well."""
    headers = {"content-type": CONTENT_TYPE, "ce_specversion": SPEC_VERSION}
    for name, header in _MIRRORED.items():
        if value := envelope.get(name):
            headers[header] = str(value)
    return headers


@dataclass(frozen=True)
class Message:
    """A CloudEvent. `sequence` is the aggregate's version, `subject` its id, `partitionkey` the Kafka key.

    `version` is that of the type: which schema the data are of.
    """

    id: str
    source: str
    type: str
    subject: str
    time: str
    partitionkey: str
    data: Mapping[str, Any]
    sequence: int = 0
    traceparent: str = ""
    via: str = ""
    hops: int = 0
    version: int = 1
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self, **changes: Any) -> bytes:
        """The envelope as it is sent; `changes` as in `envelope`."""
        return orjson.dumps(self.envelope(**changes))

    def to_headers(self) -> dict[str, str]:
        """What stands in Kafka's headers."""
        return mirrored(self.envelope())

    def envelope(self, **changes: Any) -> dict[str, Any]:
        """The event's attributes and data; `changes` are those that are to be others than the message's."""
        message_type = changes.get("type", self.type)
        return {
            "specversion": SPEC_VERSION,
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": self.time,
            "datacontenttype": "application/json",
            "dataschema": data_schema(message_type, self.version),
            "partitionkey": self.partitionkey,
            "sequence": self.sequence,
            "traceparent": self.traceparent,
            "via": self.via,
            "hops": self.hops,
            **self.extensions,
            **changes,
            "data": self.data,
        }

    @property
    def happened_at(self) -> datetime:
        """Raises PoisonMessageError when `time` is no moment with an offset."""
        try:
            moment = datetime.fromisoformat(self.time)
        except ValueError as error:
            raise PoisonMessageError(f"time={self.time!r} is no moment") from error
        if moment.tzinfo is None:
            raise PoisonMessageError(f"time={self.time!r} has no offset")
        return moment

    @property
    def replay_id(self) -> str:
        """What tells a replayed message from the one it repeats; empty when it is no replay."""
        return str(self.extensions.get("replayid") or "")

    @property
    def replayed_for(self) -> str:
        """The consumer group that a replay is for; empty when it is for all of them."""
        return str(self.extensions.get("replayfor") or "")

    @property
    def notifies_again(self) -> bool:
        """Whether a replay is to reach people and other systems, who were told the first time."""
        return self.extensions.get("replaynotify") is True

    @property
    def domain(self) -> str:
        """`events.created` → `events`."""
        return self.type.partition(".")[0]

    def read(self, parse: Callable[[Mapping[str, Any]], T]) -> T:
        """What `parse` makes of the data. Raises PoisonMessageError when they are not what it expects."""
        try:
            return parse(self.data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PoisonMessageError(f"the data of {self.type} are not as expected: {error!r}") from error

    @classmethod
    def from_json(cls, text: bytes | str) -> Message:
        """Raises PoisonMessageError, naming what is wrong, for anything that is not a CloudEvent of ours."""
        try:
            envelope = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise PoisonMessageError(f"not JSON: {error}") from error
        if not isinstance(envelope, dict):
            raise PoisonMessageError("not a JSON object")
        return cls.from_envelope(envelope)

    @classmethod
    def from_envelope(cls, envelope: Mapping[str, Any]) -> Message:
        """Raises PoisonMessageError, naming what is wrong."""
        attribute = envelope.get
        missing = [name for name in _REQUIRED if not attribute(name)]
        if missing:
            raise PoisonMessageError(f"CloudEvents attributes missing: {', '.join(missing)}")
        if envelope["specversion"] != SPEC_VERSION:
            raise PoisonMessageError(f"specversion={envelope['specversion']!r}; allowed: {SPEC_VERSION!r}")
        data = {} if attribute("data") is None else envelope["data"]
        if not isinstance(data, dict):
            raise PoisonMessageError("data is not a JSON object")
        try:
            sequence, hops = int(attribute("sequence", 0)), int(attribute("hops", 0))
        except (TypeError, ValueError) as error:
            raise PoisonMessageError(f"sequence and hops must be whole numbers: {error}") from error
        version = _version_of(str(attribute("dataschema")))
        subject = str(attribute("subject") or "")
        message = object.__new__(cls)
        # As the constructor does, which sets the fields of what is frozen one by one and takes four times as long.
        message.__dict__.update(
            id=str(envelope["id"]),
            source=str(envelope["source"]),
            type=str(envelope["type"]),
            subject=subject,
            time=str(attribute("time") or ""),
            partitionkey=str(attribute("partitionkey") or subject),
            data=data,
            sequence=sequence,
            traceparent=str(attribute("traceparent") or ""),
            via=str(attribute("via") or ""),
            hops=hops,
            version=version or 1,
            extensions=_extensions(envelope, _OWN if version else _FIELDS),
        )
        return message


@lru_cache(100)
def _version_of(schema: str) -> int | None:
    """None for a schema of others."""
    named = _DATA_SCHEMA.fullmatch(schema)
    return int(named[1]) if named else None


def _extensions(envelope: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    if known.issuperset(envelope):
        return {}
    return {name: value for name, value in envelope.items() if name not in known}
