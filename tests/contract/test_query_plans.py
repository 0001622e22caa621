"""Each query of registrations has a call with which its plan is looked at, on a million registrations."""

from __future__ import annotations

import pytest

from tests.support.registration_queries import CALLS, queries_of, stores


@pytest.mark.parametrize("store", list(stores()), ids=lambda store: store.__name__)
def test_every_query_is_called_where_plans_are_looked_at(store: type) -> None:
    """tests/integration/core/test_registration_plans.py runs the calls in tests/support/registration_queries.py."""
    assert queries_of(store) == set(CALLS.get(store, {}))
