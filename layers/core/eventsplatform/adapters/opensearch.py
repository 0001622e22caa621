"""OpenSearch: one client per execution environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from eventsplatform.config import SearchSettings
from eventsplatform.errors import DependencyUnavailableError

if TYPE_CHECKING:
    from opensearchpy import OpenSearch


@cache
def opensearch_client() -> OpenSearch:
    from eventsplatform.adapters.guarded_opensearch import connect

    return connect(SearchSettings.from_environment())


@contextmanager
def opensearch_required() -> Iterator[OpenSearch]:
    """Connection failures, time-outs and overload become DependencyUnavailableError; other errors pass."""
    from opensearchpy.exceptions import TransportError

    from eventsplatform.adapters.guarded_opensearch import is_outage

    try:
        yield opensearch_client()
    except TransportError as error:
        if is_outage(error):
            raise DependencyUnavailableError("search engine") from error
        raise
