from __future__ import annotations

import re
from contextvars import copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsplatform.tracing import continue_trace, current_traceparent

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def hexadecimal(length: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=length, max_size=length)


@given(hexadecimal(32), hexadecimal(16), hexadecimal(2))
def test_a_sound_traceparent_keeps_its_trace_and_gets_a_span_of_its_own(trace: str, span: str, flags: str) -> None:
    continued = continue_trace(f"00-{trace}-{span}-{flags}")

    if int(trace, 16) and int(span, 16):
        assert continued.trace_id == trace
        assert continued.span_id != span
        assert continued.flags == flags
    else:
        assert continued.trace_id != trace
    assert TRACEPARENT.fullmatch(continued.traceparent)


@given(st.text())
def test_anything_else_starts_a_trace_that_is_sound(text: str) -> None:
    assert TRACEPARENT.fullmatch(continue_trace(text).traceparent)


@pytest.mark.parametrize(
    "malformed",
    [
        PARENT.upper(),
        PARENT + "\n",
        PARENT + "-extra",
        "ff" + PARENT[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "",
        None,
    ],
)
def test_a_malformed_traceparent_is_not_continued(malformed: str | None) -> None:
    assert continue_trace(malformed).trace_id != "0af7651916cd43dd8448eb211c80319c"


def test_what_is_handed_on_belongs_to_the_trace_that_was_entered() -> None:
    continued = continue_trace(PARENT)

    assert current_traceparent() == continued.traceparent


def test_a_trace_begins_when_none_was_entered() -> None:
    def hand_on() -> tuple[str, str]:
        return current_traceparent(), current_traceparent()

    first, second = copy_context().run(hand_on)

    assert TRACEPARENT.fullmatch(first)
    assert first == second
