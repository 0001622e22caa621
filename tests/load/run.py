"""What every benchmark is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.load.report import Report


@dataclass(frozen=True)
class Run:
    """`directory` is a temporary one for state and logs; `quick` asks for figures that only show it works."""

    directory: Path
    report: Report
    quick: bool = False

    @property
    def demo_state(self) -> Path:
        """The state of the platform that has the demo data; whichever benchmark comes first loads them."""
        return self.directory / "demo"
