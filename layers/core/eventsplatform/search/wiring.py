"""Search, connected to OpenSearch and to the catalog."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventsplatform.adapters.aws import FunctionClient
from eventsplatform.clock import utc_now
from eventsplatform.config import read_setting
from eventsplatform.search.index import OpenSearchEvents
from eventsplatform.search.service import EventSearch

# An event with the longest texts takes some 30 KB, a function's answer 6 MB.
PAGE_SIZE = 150


class CatalogFunctions:
    """The catalog's own function, invoked directly."""

    def page(self, after_id: int) -> list[dict[str, Any]]:
        question = {"after_id": after_id, "limit": PAGE_SIZE}
        answer = FunctionClient().invoke(read_setting("DESCRIBE_EVENTS_FUNCTION", str), question)
        return list(answer["events"])


FACTORIES: dict[type, Callable[[], Any]] = {
    EventSearch: lambda: EventSearch(OpenSearchEvents(), CatalogFunctions(), utc_now)
}
