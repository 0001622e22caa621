"""What a service holds about a person, as it is handed over on request (GDPR art. 15): page by page, table by table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

# Lambda answers with 6 MB at most; a row may be 20 KB, and several services' pages go into one answer.
PAGE_ROWS = 100

# What stands in the place of an erased person's name.
DELETED_NAME = "Deleted user"

# And of the title and place of what they wrote for themselves alone.
DELETED_TITLE = "Deleted event"

# `(behind which id, how many at most)` → rows by id, each with its `id`.
ReadRows = Callable[[int, int], Sequence[dict[str, Any]]]


class HeldQuestion(BaseModel):
    """Who asks, and behind which id to go on in which tables; None for all tables from their beginnings."""

    model_config = ConfigDict(extra="forbid")

    user_id: int
    after: dict[str, int] | None = None


class HeldRows(BaseModel):
    """Rows by table; `more` names the tables that hold more, and the id to go on behind."""

    rows: dict[str, list[dict[str, Any]]] = Field(default_factory=dict)
    more: dict[str, int] = Field(default_factory=dict)

    def beside(self, others: HeldRows) -> HeldRows:
        """These and the rows of other tables."""
        return HeldRows(rows=self.rows | others.rows, more=self.more | others.more)


def read_held(tables: Mapping[str, ReadRows], after: Mapping[str, int] | None) -> HeldRows:
    """The next page of each table. A table in `after` that is not one of these is left out."""
    held = HeldRows()
    for table, read in tables.items():
        if after is not None and table not in after:
            continue
        rows = list(read((after or {}).get(table, 0), PAGE_ROWS + 1))
        held.rows[table] = rows[:PAGE_ROWS]
        if len(rows) > PAGE_ROWS:
            held.more[table] = rows[PAGE_ROWS - 1]["id"]
    return held
