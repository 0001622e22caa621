"""Where the platform that is running here can be reached."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

STATE = Path(os.environ.get("EVENTS_PLATFORM_STATE") or Path(__file__).resolve().parents[2] / ".local")


def running_endpoints(state: Path) -> dict[str, str] | None:
    """The addresses in `endpoints.json`; None, after saying so, when no platform runs on this state."""
    try:
        endpoints: dict[str, str] = json.loads((state / "endpoints.json").read_text())
    except FileNotFoundError:
        print(f"No platform is running on {state}. Start one with: make dev", file=sys.stderr)
        return None
    return endpoints
