from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventsplatform.signing_keys import KeySetError, read_key_set, rotated

KEY = "x" * 64


def rotations(keys: dict[str, str], count: int) -> list[dict[str, str]]:
    """The sets that follow, one after another."""
    sets = []
    for number in range(count):
        keys = rotated(keys, f"fresh {number} {KEY}")
        sets.append(keys)
    return sets


def test_a_set_with_one_key_only_gets_a_next_one() -> None:
    assert rotated({"active": "k1", "k1": "first"}, "second") == {"active": "k1", "k1": "first", "k2": "second"}


def test_a_rotation_activates_the_key_that_the_one_before_it_added() -> None:
    assert rotated({"active": "k1", "k1": "first", "k2": "second"}, "third") == {
        "active": "k2",
        "k1": "first",
        "k2": "second",
        "k3": "third",
    }


def test_the_key_that_was_active_two_rotations_ago_is_dropped() -> None:
    keys = {"active": "k2", "k1": "first", "k2": "second", "k3": "third"}

    assert rotated(keys, "fourth") == {"active": "k3", "k2": "second", "k3": "third", "k4": "fourth"}


def test_key_ids_are_numbers_not_texts() -> None:
    keys = {"active": "k9", "k8": "a", "k9": "b", "k10": "c"}

    assert rotated(keys, "d") == {"active": "k10", "k9": "b", "k10": "c", "k11": "d"}


@given(st.integers(min_value=1, max_value=40))
def test_each_set_knows_the_active_key_of_the_sets_before_and_after_it(count: int) -> None:
    sets = [{"active": "k1", "k1": KEY}, *rotations({"active": "k1", "k1": KEY}, count)]

    for earlier, later in pairwise(sets):
        assert earlier[later["active"]] == later[later["active"]]
        assert later[earlier["active"]] == earlier[earlier["active"]]
        assert len(later) <= 4


def test_after_three_rotations_no_key_is_left() -> None:
    """What a leak of the whole set takes: its next key is among what leaked."""
    before = rotations({"active": "k1", "k1": KEY}, 3)[-1]

    second, third = rotations(before, 3)[1:]

    assert set(second.values()) & set(before.values()) - set(before)
    assert not (set(third) & set(before)) - {"active"}


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"k1": KEY},
        {"active": "k2", "k1": KEY},
        {"active": "active", "k1": KEY},
        {"active": "k1", "k1": "short"},
        {"active": "k1", "k1": 5},
        {"active": "key", "key": KEY},
        {"active": "k0", "k0": KEY},
    ],
)
def test_what_is_no_set_of_keys_is_refused_without_telling_a_key(content: Any) -> None:
    with pytest.raises(KeySetError) as refused:
        read_key_set(content)

    assert KEY not in str(refused.value)


def test_a_set_of_keys_is_read_as_it_is() -> None:
    assert read_key_set({"active": "k1", "k1": KEY}) == {"active": "k1", "k1": KEY}
