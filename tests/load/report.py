"""Tables on standard output, and the same figures as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

Cell = str | int | float | None


@dataclass(frozen=True)
class Target:
    """A figure that is to stay within a limit; `limit` and `value` are in the same unit."""

    name: str
    value: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value < self.limit

    def __str__(self) -> str:
        relation = "at least" if self.at_least else "under"
        verdict = "met" if self.met else "MISSED"
        return f"{verdict}: {self.name} is {_readable(self.value)} {self.unit}, {relation} {self.limit:g} wanted"


@dataclass(frozen=True)
class Table:
    """One measurement: each row's figures stand beside their reference. `notes` say how to read it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    targets: Sequence[Target] = ()
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        rows = [[_readable(cell) for cell in row] for row in self.rows]
        grid = tabulate(rows, self.columns, "github", disable_numparse=True, colalign=self._alignment())
        lines = [f"## {self.title}", "", grid, "", *self.notes, *map(str, self.targets)]
        return "\n".join(lines).rstrip() + "\n"

    def _alignment(self) -> list[str]:
        return ["left" if isinstance(cell, str) else "right" for cell in self.rows[0]]


@dataclass
class Report:
    """Prints each table when it is there and keeps it for `write`."""

    tables: list[Table] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=lambda: _machine())

    def begin(self) -> None:
        described = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        print(f"{described}\n", flush=True)

    def add(self, table: Table) -> None:
        self.tables.append(table)
        print(table, flush=True)

    def write(self, path: Path) -> None:
        targets = [{**asdict(target), "met": target.met} for table in self.tables for target in table.targets]
        tables = [{key: value for key, value in asdict(table).items() if key != "targets"} for table in self.tables]
        document = {"machine": self.machine, "tables": tables, "targets": targets}
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _readable(cell: Cell) -> str:
    """Three significant digits, for no run is more exact than that; whole numbers stay whole."""
    match cell:
        case None:
            return ""
        case float():
            return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
        case _:
            return str(cell)


def _machine() -> dict[str, Any]:
    """What the figures depend on; the load average tells whether others were using the machine."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "Python": platform.python_version(),
        "load average": round(os.getloadavg()[0], 2),
    }
