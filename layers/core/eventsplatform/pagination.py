"""Opaque cursors: the sort key of the last item, so that a page at any depth costs the same as the first."""

from __future__ import annotations

import base64
import binascii
import json
import math
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
    except (binascii.Error, ValueError) as error:
        raise invalid_cursor() from error
    if not isinstance(key, list) or len(key) != length or not all(_is_sort_value(part) for part in key):
        raise invalid_cursor()
    return key


def invalid_cursor() -> InvalidInputError:
    return InvalidInputError(
        [FieldError("/query/cursor", "not a cursor of this list; use next_cursor as it was returned")]
    )


def _is_sort_value(part: Any) -> bool:
    """A string, or a number that every engine can hold."""
    if isinstance(part, float):
        return math.isfinite(part)
    if isinstance(part, int):
        return not isinstance(part, bool) and abs(part) < 2**63
    return isinstance(part, str)
