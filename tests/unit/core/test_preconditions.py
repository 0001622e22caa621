from __future__ import annotations

import pytest

from eventsplatform.errors import PreconditionFailedError
from eventsplatform.preconditions import is_unchanged, require_match


@pytest.mark.parametrize("if_match", [None, "*", ' "3"', '"2", "3"', 'W/"2","3"'])
def test_a_condition_that_holds_lets_the_write_through(if_match: str | None) -> None:
    require_match(if_match, '"3"')


@pytest.mark.parametrize("if_match", ['"2"', 'W/"3"', "3", "", '"33"', '"2", W/"3"'])
def test_any_other_condition_refuses_it(if_match: str) -> None:
    """A weak tag never matches strongly (RFC 9110 §8.8.3.2)."""
    with pytest.raises(PreconditionFailedError):
        require_match(if_match, '"3"')


@pytest.mark.parametrize("if_none_match", ["*", ' "3"', '"2", "3"', 'W/"3"', '"2",W/"3"'])
def test_who_has_it_already_need_not_be_sent_it(if_none_match: str) -> None:
    """A weak tag matches: that the client's copy is as good is all there is to know (RFC 9110 §13.1.2)."""
    assert is_unchanged(if_none_match, '"3"')
    assert is_unchanged(if_none_match, 'W/"3"')


@pytest.mark.parametrize("if_none_match", [None, "", "3", '"33"', '"2", "4"'])
def test_who_has_another_or_none_is_sent_it(if_none_match: str | None) -> None:
    assert not is_unchanged(if_none_match, '"3"')
