"""The engines that triggers talk to, shared by the tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.engines import Endpoints
from tests.support.engines import RunningEngines, engines_running


@pytest.fixture(scope="session")
def messaging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngines]:
    """Kafka and moto alone: they start in less than a second or two."""
    with engines_running(tmp_path_factory.mktemp("messaging"), only=frozenset({"kafka", "aws"})) as running:
        yield running


@pytest.fixture(scope="session")
def endpoints(messaging: RunningEngines) -> Endpoints:
    return messaging.endpoints
