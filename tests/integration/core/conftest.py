"""The session's engines as the core's adapters use them, and the migrated database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.engines import Endpoints
from tests.support.core_environment import core_environment
from tests.support.database import migrated_database

__all__ = ["migrated_database"]


@pytest.fixture
def adapters(endpoints: Endpoints) -> Iterator[Endpoints]:
    """Point the adapters at the session's engines."""
    with core_environment(endpoints):
        yield endpoints
