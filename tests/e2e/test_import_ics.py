"""`make import-ics` against the platform: a calendar's events are published, the rest is accounted for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.platform import PASSWORD, Account, RunningPlatform
from tests.support.polling import eventually

CALENDARS = Path(__file__).resolve().parents[1] / "fixtures" / "calendars"


@pytest.fixture
def organiser(platform: RunningPlatform) -> Account:
    return platform.sign_up("Ines Importer")


def run_import(platform: RunningPlatform, file: Path, email: str, password: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local", "import-ics", str(file), "--email", email]
    environment = {**os.environ, "EVENTS_PLATFORM_PASSWORD": password}
    return subprocess.run(
        [*command, "--api", platform.endpoints["gateway"]], capture_output=True, text=True, env=environment, timeout=90
    )


def test_a_calendar_is_published_and_found_by_search(platform: RunningPlatform, organiser: Account) -> None:
    # When a calendar with sound and unsound entries is imported
    run = run_import(platform, CALENDARS / "conference.ics", organiser.email, PASSWORD)

    # Then each entry is either published, as the user's event, or named with the reason
    assert run.returncode == 1, run.stdout + run.stderr
    events = platform.sql("SELECT title FROM catalog.events WHERE organizer_id = %s", (organiser.id,))
    assert len(events) == 5, run.stdout
    assert "7 not taken" in run.stdout, run.stdout

    # And what was published is found like any other event
    title = events[0]["title"]

    def found() -> bool:
        hits = platform.http.get("/v1/search/events", params={"q": title}).json()["items"]
        return title in [hit["title"] for hit in hits]

    eventually(found, what="the imported event in the search")


def test_a_wrong_password_starts_nothing(platform: RunningPlatform, organiser: Account) -> None:
    run = run_import(platform, CALENDARS / "conference.ics", organiser.email, "not the password")

    assert run.returncode == 2
    assert platform.sql("SELECT id FROM catalog.events WHERE organizer_id = %s", (organiser.id,)) == []
