"""Search, connected to OpenSearch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.clock import utc_now
from eventsplatform.search.index import OpenSearchEvents
from eventsplatform.search.service import EventSearch

FACTORIES: dict[type, Callable[[], Any]] = {EventSearch: lambda: EventSearch(OpenSearchEvents(), utc_now)}
