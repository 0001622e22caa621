"""The worked example of docs/api/inbound.md, as it is printed there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.platform import ROOT, RunningPlatform


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )


def test_a_partner_creates_an_event_until_its_grant_is_withdrawn(platform: RunningPlatform, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api" / "inbound.md").read_text(), re.DOTALL)
    program = tmp_path / "acme.py"
    program.write_text(example)
    ada = platform.sign_up("Ada")
    partner_token = ("-m", "local", "partner-token", f"acme-{ada.id}", "--state", str(platform.state))
    granted = run(*partner_token, "--email", ada.email, "--command", "events.create")
    token = granted.stdout.strip()
    assert token, granted.stderr
    platform.used_secrets.add("partner token", token)

    answer = run(str(program), platform.endpoints["nats"], token)
    assert answer.stdout.startswith("commands.succeeded"), answer.stderr + answer.stdout
    titles = platform.sql("SELECT title, status FROM catalog.events WHERE organizer_id = %s", (ada.id,))
    assert titles == [{"title": "Jazz by the canal", "status": "draft"}]

    assert run(*partner_token, "--withdraw").stdout == "1 grants have ended.\n"
    answer = run(str(program), platform.endpoints["nats"], token)
    assert answer.stdout.startswith("commands.failed"), answer.stderr + answer.stdout
    assert "'status': 401" in answer.stdout
