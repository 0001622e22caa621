"""The tour in README.md, run as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tour_in_the_readme_works_as_printed(platform) -> None:
    # Given the shell blocks of the tour, with this platform's port and state in place of the default ones
    script = (
        _tour().replace("http://localhost:8080", platform.endpoints["gateway"]).replace(".local/", f"{platform.state}/")
    )

    # When they are run one after the other, as someone would paste them
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**os.environ, "EVENTS_PLATFORM_STATE": str(platform.state)},
        capture_output=True,
        text=True,
        timeout=90,
    )

    # Then each part shows what the text around it says
    assert run.returncode == 0, run.stderr
    for shown in (
        '"email":"ada@example.org"',
        '"status":"published"',
        '"title":"Jazz by the canal"',
        '"type":"joined"',
        '"status":"active"',
        '"event":"registrations.created","data":{',
        '"checked_in_by":',
        '"outcome": "already_checked_in"',
        "events.published.",
        '"status":"healthy"',
        "http_requests_total{",
        "3.1.0",
        '"opensearch"',
        "no differences.",
    ):
        assert shown in run.stdout, f"{shown} is not in:\n{run.stdout}"


def _tour() -> str:
    readme = (ROOT / "README.md").read_text()
    section = readme.split("## A tour", 1)[1].split("\n## ", 1)[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL))
