"""What comes in over NATS, read as a CloudEvent: outside systems are believed as little as users are.

Three forms are taken (docs/api/messaging.md): a CloudEvent in structured JSON, one in binary mode (attributes in
`ce-…` headers), and a plain JSON object, which becomes the data of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import orjson

from eventsplatform.clock import rfc3339
from eventsplatform.errors import PoisonMessageError
from eventsplatform.messaging.envelope import SPEC_VERSION, Message

# JetStream answers a message's own reply subject itself, that it has stored it, and does not keep it. So a sender says
# elsewhere where it waits for the platform's answer.
_FROM_HEADERS = {"traceparent": "traceparent", "replyto": "evp-reply-to"}

ID_MAXIMUM = 256
TEXT_MAXIMUM = 1_024
ATTRIBUTES_MAXIMUM = 32
_BINARY = "ce-"
# https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#naming-conventions
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")
# Said by the platform alone.
_OURS = frozenset({"natsseq", "replayid", "replayfor", "replaynotify", "sendertype"})
_NOT_CARRIED = ("nats-", "ce-", "ce_", "dlt_")
_READ = frozenset({"content-type", *_FROM_HEADERS.values()})


@dataclass(frozen=True)
class Arrival:
    """A message of a stream: `sequence` is its number there, `stored_at` when it came, in seconds since 1970."""

    stream: str
    subject: str
    data: bytes
    headers: Mapping[str, str]
    sequence: int
    stored_at: float

    @property
    def origin(self) -> str:
        """Where it stands: `stream@sequence`."""
        return f"{self.stream}@{self.sequence}"


def read(arrival: Arrival) -> Message:
    """The sender's message, with what the platform adds to it. Raises PoisonMessageError, saying what is wrong."""
    headers = {name.lower(): value for name, value in arrival.headers.items()}
    envelope = _envelope(arrival, headers)
    _check(envelope)
    attributes = {name: value for name, value in envelope.items() if name not in _OURS}
    attributes.setdefault("id", headers.get("nats-msg-id") or f"{arrival.stream}:{arrival.sequence}")
    attributes.setdefault("source", f"nats://{arrival.stream}/{arrival.subject}")
    attributes.setdefault("type", arrival.subject)
    attributes.setdefault("time", rfc3339(datetime.fromtimestamp(arrival.stored_at, UTC)))
    attributes["natsseq"] = arrival.sequence
    for attribute, header in _FROM_HEADERS.items():
        if text := headers.get(header):
            attributes[attribute] = _text(header, text, TEXT_MAXIMUM)
    return Message.from_envelope(attributes)


def carried(headers: Mapping[str, str]) -> dict[str, str]:
    """The sender's own headers: not those of NATS, nor those that are read into attributes or mirror them."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower() not in _READ and not name.lower().startswith(_NOT_CARRIED)
    }


def _envelope(arrival: Arrival, headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        content = orjson.loads(arrival.data) if arrival.data else {}
    except orjson.JSONDecodeError as error:
        raise PoisonMessageError(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise PoisonMessageError("not a JSON object")
    if f"{_BINARY}specversion" in headers:
        attributes: dict[str, Any] = {
            name.removeprefix(_BINARY): unquote(value) for name, value in headers.items() if name.startswith(_BINARY)
        }
        return {**attributes, "data": content}
    if "specversion" in content:
        return content
    return {"specversion": SPEC_VERSION, "data": content}


def _check(envelope: Mapping[str, Any]) -> None:
    if len(envelope) > ATTRIBUTES_MAXIMUM:
        raise PoisonMessageError(f"{len(envelope)} attributes; allowed: {ATTRIBUTES_MAXIMUM}")
    for name, value in envelope.items():
        if name == "data":
            continue
        if not _ATTRIBUTE.fullmatch(name):
            raise PoisonMessageError(f"{name[:40]!r} is no attribute's name: lower-case letters and digits, 20 at most")
        if isinstance(value, str):
            _text(name, value, ID_MAXIMUM if name in ("id", "subject", "type") else TEXT_MAXIMUM)
        elif not (value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**31)):
            raise PoisonMessageError(f"{name} is neither text nor a whole number of 32 bits nor true or false")
    for name in ("id", "source", "type", "subject", "partitionkey"):
        if name in envelope and (not isinstance(envelope[name], str) or not envelope[name]):
            raise PoisonMessageError(f"{name} is no text, or empty")
    if str(envelope.get("hops", 0)).startswith("-"):
        raise PoisonMessageError("hops is less than 0")
    if "time" in envelope and not _is_time(envelope["time"]):
        raise PoisonMessageError("time is no RFC 3339 time with its offset")
    content_type = str(envelope.get("datacontenttype") or "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise PoisonMessageError(f"datacontenttype={content_type!r}; allowed: 'application/json'")


def _text(name: str, value: str, maximum: int) -> str:
    if len(value) > maximum:
        raise PoisonMessageError(f"{name} has {len(value)} characters; allowed: {maximum}")
    if _UNSAFE.search(value):
        raise PoisonMessageError(f"{name} has control characters")
    return value


def _is_time(value: Any) -> bool:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True
