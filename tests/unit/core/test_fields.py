from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from eventsplatform.fields import ONE_LINE, PARAGRAPHS, Count, Moment

line: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(min_length=3, max_length=10), ONE_LINE])
paragraphs: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(max_length=100), PARAGRAPHS])
moment: TypeAdapter[datetime] = TypeAdapter(Moment)
count: TypeAdapter[int] = TypeAdapter(Count)


@given(st.text())
def test_a_line_that_is_accepted_can_be_stored_and_stays_as_it_is(text: str) -> None:
    try:
        accepted = line.validate_python(text)
    except ValidationError:
        return
    assert 3 <= len(accepted) <= 10
    assert "\0" not in accepted
    accepted.encode()
    assert "\n" not in accepted
    assert line.validate_python(accepted) == accepted


@pytest.mark.parametrize(
    ("given_text", "kept"), [("  a \t b\n", "a b"), ("abc", "abc"), ("٣٤٥", "٣٤٥"), ("  " * 50 + "abc", "abc")]
)
def test_white_space_of_a_line_is_made_even_before_its_length_counts(given_text: str, kept: str) -> None:
    assert line.validate_python(given_text) == kept


@pytest.mark.parametrize("refused", ["  a  ", "x" * 11, "ab\0c", "ab\ud800c", "ab\x1bc", "abc\u202edcb", "", 42, None])
def test_what_is_no_storable_line_is_refused(refused: Any) -> None:
    with pytest.raises(ValidationError):
        line.validate_python(refused)


def test_paragraphs_keep_their_line_breaks() -> None:
    assert paragraphs.validate_python("One.\r\n\tTwo.\n") == "One.\r\n\tTwo.\n"


@pytest.mark.parametrize("refused", ["a\0b", "a\ud83d", "a\x07"])
def test_paragraphs_cannot_hold_what_cannot_be_stored(refused: str) -> None:
    with pytest.raises(ValidationError):
        paragraphs.validate_python(refused)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2030-05-01T18:00:00+02:00", datetime(2030, 5, 1, 16, tzinfo=UTC)),
        ("2030-05-01t18:00:00z", datetime(2030, 5, 1, 18, tzinfo=UTC)),
        ("2030-05-01T18:00:00.25Z", datetime(2030, 5, 1, 18, 0, 0, 250_000, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_moment_is_kept_in_utc(text: str, utc: datetime) -> None:
    kept = moment.validate_python(text)

    assert kept == utc
    assert kept.tzinfo is UTC


@pytest.mark.parametrize(
    "refused",
    [
        "2030-05-01T18:00:00",
        "2030-05-01",
        "18:00:00Z",
        1_900_000_000,
        "1900000000",
        1.5,
        True,
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00+14:00",
        "2030-02-30T00:00:00Z",
        "",
        None,
    ],
)
def test_what_is_no_moment_of_rfc_3339_is_refused(refused: Any) -> None:
    with pytest.raises(ValidationError):
        moment.validate_python(refused)


@pytest.mark.parametrize("refused", [True, "5", 5.0, 1e400, None])
def test_a_count_is_a_whole_number_and_nothing_like_one(refused: Any) -> None:
    with pytest.raises(ValidationError):
        count.validate_python(refused)
