"""Fixtures that every test can ask for, and one that all have."""

from __future__ import annotations

import pytest

from eventsplatform.adapters import breakers

pytest_plugins = ("tests.support.engines", "tests.support.platform")


@pytest.fixture(autouse=True)
def _closed_breakers() -> None:
    """A test may take an engine away: the next one has a new execution environment."""
    breakers.forget()
