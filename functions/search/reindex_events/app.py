from typing import Any

from pydantic import BaseModel

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.search.service import EventSearch


class Progress(BaseModel):
    after_id: int = 0
    indexed: int = 0


@direct(Progress)
def handler(progress: Progress) -> dict[str, Any]:
    """Index the next page of events; the state machine calls again until there is none."""
    page = provide(EventSearch).reindex_page(progress.after_id)
    return {
        "after_id": page.last_id or progress.after_id,
        "indexed": progress.indexed + page.indexed,
        "done": page.last_id is None,
    }
