"""Comparing two streams of rows, and what of it may only be under way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from local.verification.comparison import Counter, Difference, Mismatch, Row, differences, mismatches

SIDES = st.dictionaries(st.tuples(st.integers(0, 20), st.integers(0, 2)), st.integers(0, 3))


def rows(side: dict[tuple[int, int], int]) -> list[Row]:
    return [Row(key, {"number": side[key]}) for key in sorted(side)]


@given(expected=SIDES, found=SIDES)
def test_whatever_is_not_on_both_sides_and_the_same_is_found_once(
    expected: dict[tuple[int, int], int], found: dict[tuple[int, int], int]
) -> None:
    counter = Counter()

    keys = [each.key for each in mismatches(rows(expected), rows(found), counter)]

    assert keys == sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    assert counter.rows == len(expected.keys() | found.keys())


def test_each_field_that_is_not_as_it_should_be_has_its_line() -> None:
    mismatch = Mismatch((7,), Row((7,), {"name": "Ada", "kept": 1, "told": 2}), Row((7,), {"name": "Eve", "kept": 1}))

    lines = [str(each) for each in differences(mismatch, "user 7", "catalog.users")]

    assert lines == [
        "user 7: catalog.users, name: expected 'Ada', found 'Eve'",
        "user 7: catalog.users, told: expected 2, found nothing",
    ]


def test_a_row_that_is_on_one_side_alone_is_one_difference() -> None:
    row = Row((7,), {"name": "Ada"})

    assert list(differences(Mismatch((7,), row, None), "user 7", "catalog.users")) == [
        Difference("user 7", "catalog.users", "", {"name": "Ada"}, "nothing")
    ]
    assert list(differences(Mismatch((7,), None, row), "user 7", "catalog.users")) == [
        Difference("user 7", "catalog.users", "", "nothing", {"name": "Ada"})
    ]


def seen(*, expected: int | None, found: int | None) -> Mismatch:
    """A mismatch of versions."""
    sides = (Row((1,), {}, version) if version is not None else None for version in (expected, found))
    return Mismatch((1,), *sides)


def test_what_moves_on_has_caught_up_once_it_has_what_was_first_missing() -> None:
    # First seen when version 5 was to be there
    assert not seen(expected=8, found=4).has_caught_up(5)
    assert seen(expected=8, found=5).has_caught_up(5)
    assert seen(expected=8, found=7).has_caught_up(5)


def test_what_has_the_same_version_and_is_not_the_same_never_catches_up() -> None:
    assert not seen(expected=5, found=5).has_caught_up(5)
    assert not seen(expected=5, found=9).has_caught_up(5)


def test_what_is_missing_has_not_caught_up() -> None:
    assert not seen(expected=5, found=None).has_caught_up(0)
    assert not seen(expected=None, found=5).has_caught_up(0)
