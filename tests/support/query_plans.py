"""The plans that PostgreSQL makes of whatever statements are run, as it tells them itself (auto_explain)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

# A prepared statement is planned for its values five times. Then PostgreSQL settles for one plan for whatever values,
# where that promises to be no worse.
UNTIL_SETTLED = 7

_SETTINGS = {
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_format": "json",
    "auto_explain.log_verbose": "on",
    # Those of functions and triggers, too.
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_level": "notice",
    "client_min_messages": "notice",
    "jit": "off",
}


@dataclass
class Plans:
    """The plans of the statements that were run meanwhile, each with its statement."""

    plans: list[dict[str, Any]] = field(default_factory=list)

    def full_scans(self, schema: str, tables: Set[str]) -> list[str]:
        """Where one of the tables is read from its beginning to its end: `table: statement`."""
        return [
            f"{table}: {' '.join(each['Query Text'].split())}"
            for each in self.plans
            for table in _fully_read(each["Plan"], schema)
            if table in tables
        ]


@contextmanager
def plans_told(connection: psycopg.Connection[Any]) -> Iterator[Plans]:
    """Notes the plan of every statement that the connection, an administrator's, runs meanwhile.

    That of a query is told when the next statement is run, or its transaction ends.
    """
    told = Plans()

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        _, is_plan, plan = (diagnostic.message_primary or "").partition("plan:\n")
        if is_plan:
            told.plans.append(json.loads(plan))

    connection.execute("LOAD 'auto_explain'")
    for name, value in _SETTINGS.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    connection.prepare_threshold = 0
    connection.add_notice_handler(note)
    try:
        yield told
    finally:
        connection.remove_notice_handler(note)
        connection.execute("SET auto_explain.log_min_duration = -1")


def _fully_read(node: dict[str, Any], schema: str) -> Iterator[str]:
    """The tables that are read in sequence, in parallel or not."""
    if node["Node Type"] == "Seq Scan" and node["Schema"] == schema:
        yield node["Relation Name"]
    for child in node.get("Plans", ()):
        yield from _fully_read(child, schema)
