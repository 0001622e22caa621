"""What functions write: log lines and metrics."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from eventsplatform.observability import logger
from tests.support.metrics import metrics

__all__ = ["metrics"]

# How long an example takes says more about what else the machine does.
settings.register_profile("core", deadline=None)
settings.load_profile("core")


@pytest.fixture
def raw() -> Iterator[Callable[[], str]]:
    """What has been logged so far in this test, as it was written."""
    written = io.StringIO()
    handler = logger.registered_handler
    previous = handler.setStream(written)  # type: ignore[attr-defined]
    yield written.getvalue
    if previous is not None:
        handler.setStream(previous)  # type: ignore[attr-defined]


@pytest.fixture
def logged(raw: Callable[[], str]) -> Callable[[], list[dict[str, Any]]]:
    """The log lines written so far in this test."""
    return lambda: [json.loads(line) for line in raw().splitlines()]
