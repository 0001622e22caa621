"""The form of a request's content, checked before anything reads it."""

from __future__ import annotations

import base64
import re
from typing import Any

import orjson

from eventsplatform.errors import MalformedRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from eventsplatform.observability import header

# The longest description, with every character escaped, takes half of it.
CONTENT_BYTES = 64 * 1024
# Far more than any request has; parsers recurse.
JSON_DEPTH = 16

JSON_TYPES = {"PATCH": ("application/json", "application/merge-patch+json")}

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def check_content(event: dict[str, Any]) -> bytes:
    """The content in a form that does not depend on white space and the order of names.

    Raises UnsupportedMediaTypeError, PayloadTooLargeError or MalformedRequestError.
    """
    body = event.get("body")
    if not body:
        return b""
    _check_type(event)
    try:
        content: bytes = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    except UnicodeEncodeError as error:
        raise MalformedRequestError("The request is not Unicode text.") from error
    if len(content) > CONTENT_BYTES:
        raise PayloadTooLargeError(f"The body has {len(content)} bytes; allowed: {CONTENT_BYTES}.")
    check_depth(content)
    try:
        return orjson.dumps(orjson.loads(content), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        return content  # said in detail where it is read


def _check_type(event: dict[str, Any]) -> None:
    content_type = (header(event["headers"], "content-type") or "").partition(";")[0].strip().lower()
    allowed = JSON_TYPES.get(event["httpMethod"], ("application/json",))
    if content_type not in allowed:
        names = " or ".join(map(repr, allowed))
        raise UnsupportedMediaTypeError(f"Content-Type is {content_type or 'absent'!r}; allowed: {names}.")


def check_depth(content: bytes) -> None:
    """Raises MalformedRequestError for JSON that is nested too deep to be handed to parsers."""
    if content.count(b"{") + content.count(b"[") <= JSON_DEPTH:
        return
    depth = 0
    for character in _STRINGS.sub(b"", content):
        if character in b"{[":
            depth += 1
            if depth > JSON_DEPTH:
                raise MalformedRequestError(f"The JSON is nested more than {JSON_DEPTH} levels deep.")
        elif character in b"}]":
            depth -= 1
