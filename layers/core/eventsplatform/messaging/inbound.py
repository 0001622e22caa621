"""What comes in over NATS, read as a CloudEvent: outside systems are believed as little as users are.

Three forms are taken (docs/api/messaging.md): a CloudEvent in structured JSON, one in binary mode (attributes in
`ce-…` headers), and a plain JSON object, which becomes the data of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import orjson

from eventsplatform.adapters.jetstream import Delivered
from eventsplatform.clock import rfc3339
from eventsplatform.errors import PoisonMessageError
from eventsplatform.messaging.envelope import SPEC_VERSION, Message

# JetStream answers a message's own reply subject itself, that it has stored it, and does not keep it. So a sender says
# elsewhere where it waits for the platform's answer.
_FROM_HEADERS = {"id": "nats-msg-id", "traceparent": "traceparent", "replyto": "evp-reply-to"}

ID_MAXIMUM = 256
TEXT_MAXIMUM = 1_024
ATTRIBUTES_MAXIMUM = 32
JSON_TYPE = "application/json"
_JSON_TYPE = re.compile(r"(?:application/json|[\w.+-]+/[\w.+-]+\+json)\s*(?:;|$)", re.IGNORECASE)
_BINARY = "ce-"
_USUAL = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "partitionkey"}
    | {"sequence", "traceparent", "via", "hops", "data"}
)
_SHORT = frozenset({"id", "type", "subject", "partitionkey"})
_NOT_EMPTY = frozenset({"id", "source", "type", "subject", "partitionkey"})
# https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#naming-conventions
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)")
# Said by the platform alone.
_OURS = frozenset({"natsseq", "replayid", "replayfor", "replaynotify", "sendertype"})
_NOT_CARRIED = ("nats-", "ce-", "ce_", "dlt_")
_READ = frozenset({"content-type", *_FROM_HEADERS.values()})


def read(stream: str, arrival: Delivered) -> Message:
    """The sender's message, with what the platform adds to it. Raises PoisonMessageError, saying what is wrong."""
    headers = {name.lower(): value for name, value in arrival.headers.items()}
    attributes = _envelope(arrival.data, headers)
    for attribute, header in _FROM_HEADERS.items():
        if (text := headers.get(header)) and (attribute != "id" or "id" not in attributes):
            attributes[attribute] = text
    _check(attributes)
    for name in _OURS.intersection(attributes):
        del attributes[name]
    if "id" not in attributes:
        attributes["id"] = f"{stream}:{arrival.sequence}"
    if "source" not in attributes:
        attributes["source"] = f"nats://{stream}/{arrival.subject}"
    if "type" not in attributes:
        attributes["type"] = arrival.subject
    if "time" not in attributes:
        attributes["time"] = rfc3339(datetime.fromtimestamp(arrival.stored_at, UTC))
    attributes["natsseq"] = arrival.sequence
    return Message.from_envelope(attributes)


def carried(headers: Mapping[str, str]) -> dict[str, str]:
    """The sender's own headers: not those of NATS, nor those that are read into attributes or mirror them."""
    return {
        name: value
        for name, value in headers.items()
        if name.lower() not in _READ and not name.lower().startswith(_NOT_CARRIED)
    }


def _envelope(data: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        content = orjson.loads(data) if data else {}
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


def _check(attributes: Mapping[str, Any]) -> None:
    if len(attributes) > ATTRIBUTES_MAXIMUM:
        raise PoisonMessageError(f"{len(attributes)} attributes; allowed: {ATTRIBUTES_MAXIMUM}")
    texts = []
    for name, value in attributes.items():
        if isinstance(value, str):
            texts.append(value)
            if not 0 < len(value) <= ID_MAXIMUM:
                _check_length(name, len(value))
        elif name != "data":
            _check_number(name, value)
        if name not in _USUAL and not _ATTRIBUTE.fullmatch(name):
            raise PoisonMessageError(f"{name[:40]!r} is no attribute's name: lower-case letters and digits, 20 at most")
    text = "".join(texts)
    # None of what is unsafe is printable, and to ask for that is far quicker.
    if not text.isprintable() and _UNSAFE.search(text):
        raise PoisonMessageError("there are control characters in an attribute")
    if str(attributes.get("hops", 0)).startswith("-"):
        raise PoisonMessageError("hops is less than 0")
    if "time" in attributes and not _is_time(attributes["time"]):
        raise PoisonMessageError("time is no RFC 3339 time with its offset")
    content_type = attributes.get("datacontenttype")
    if content_type not in (None, JSON_TYPE) and not _JSON_TYPE.match(str(content_type)):
        raise PoisonMessageError(f"datacontenttype={content_type!r}; allowed: {JSON_TYPE!r}")


def _check_length(name: str, length: int) -> None:
    if length > (ID_MAXIMUM if name in _SHORT else TEXT_MAXIMUM):
        raise PoisonMessageError(f"{name[:40]} has {length} characters, which is too many")
    if not length and name in _NOT_EMPTY:
        raise PoisonMessageError(f"{name} is empty")


def _check_number(name: str, value: Any) -> None:
    """Of what is no text."""
    if name in _NOT_EMPTY:
        raise PoisonMessageError(f"{name} is no text")
    if not (value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**31)):
        raise PoisonMessageError(f"{name[:40]} is neither text nor a whole number of 32 bits nor true or false")


def _is_time(value: Any) -> bool:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True
