"""Opaque cursors: the sort key of the last item, so that a page at any depth costs the same as the first."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from eventsplatform.errors import FieldError, InvalidInputError

Item = TypeVar("Item")

DEFAULT_LIMIT = 20
MAXIMUM_LIMIT = 100


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = None


def encode_cursor(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *, length: int) -> list[Any]:
    """The sort key in `cursor`, `length` values long. Raises InvalidInputError for anything we did not issue."""
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        key = None
    if not isinstance(key, list) or len(key) != length or not all(isinstance(part, str | int | float) for part in key):
        raise InvalidInputError(
            [FieldError("/query/cursor", "not a cursor of this list; use next_cursor as it was returned")]
        )
    return key
