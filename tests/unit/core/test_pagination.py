from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsplatform.errors import InvalidInputError
from eventsplatform.pagination import decode_cursor, encode_cursor

sort_values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)


def cursor_of(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@given(st.lists(sort_values, max_size=5))
def test_a_cursor_gives_back_the_key_it_was_made_of(key: list[Any]) -> None:
    cursor = encode_cursor(key)

    assert decode_cursor(cursor, length=len(key)) == key
    assert cursor.isascii()
    assert "=" not in cursor


@given(st.text())
def test_any_text_is_a_cursor_or_is_refused(text: str) -> None:
    try:
        key = decode_cursor(text, length=1)
    except InvalidInputError:
        return
    assert len(key) == 1


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1},
        "text",
        None,
        [],
        [1, 2],
        [None],
        [True],
        [[1]],
        [{"a": 1}],
        [math.inf],
        [math.nan],
        [2**63],
    ],
)
def test_a_cursor_that_was_not_issued_is_refused(content: Any) -> None:
    with pytest.raises(InvalidInputError) as refused:
        decode_cursor(cursor_of(content), length=1)

    assert [error.pointer for error in refused.value.errors] == ["/query/cursor"]


def test_a_cursor_nested_without_end_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        decode_cursor(base64.urlsafe_b64encode(b"[" * 360).decode(), length=1)
