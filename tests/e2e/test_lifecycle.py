"""Starting, stopping, starting again, and being told why it does not start."""

from __future__ import annotations

import shlex
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.convergence import History, converged
from tests.support.platform import (
    HOST,
    ROOT,
    Account,
    RunningPlatform,
    free_port,
    has_ended,
    launch,
    platform_running,
)
from tests.support.polling import eventually

IDLE_MEMORY_LIMIT_MB = 1500
ENDS_WITHIN_SECONDS = 30
INTERRUPTED = 128 + signal.SIGINT


@dataclass(frozen=True)
class FirstRun:
    """A platform that was used and stopped with Ctrl-C, and what its users remember."""

    state: Path
    organiser: Account
    guest: Account
    event: dict[str, Any]
    history: History


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    state = tmp_path_factory.mktemp("kept")
    with platform_running(state) as platform:
        organiser, guest = platform.sign_up("Olga Organiser"), platform.sign_up("Gustav Guest")
        event = platform.create_event(organiser, title="The reunion")
        platform.register(guest, event["id"])
        history, _ = converged(platform)
    return FirstRun(state, organiser, guest, event, history)


def assert_everything_is_kept(platform: RunningPlatform, first_run: FirstRun) -> None:
    """Users, tokens, events and registrations; and what is projected from them, once."""
    event_id = first_run.event["id"]
    own_draft = platform.create_event(first_run.organiser, published=False)
    assert own_draft["organizer"]["id"] == first_run.organiser.id
    assert platform.log_in(first_run.guest.id, first_run.guest.email).access_token
    assert platform.http.get(f"/v1/events/{event_id}").json()["registered"] == 1
    again = platform.http.post(f"/v1/events/{event_id}/registrations", headers=first_run.guest.headers)
    assert again.status_code == 409

    def found() -> bool:
        hits = platform.http.get("/v1/search/events", params={"q": "reunion"}).json()["items"]
        return [hit["id"] for hit in hits] == [event_id]

    eventually(found, what="the event in the new search index")
    history, _ = converged(platform)
    assert not first_run.history.told - history.told


def test_a_second_start_keeps_everything_and_sends_nothing_twice(first_run: FirstRun) -> None:
    # When the platform is started again on the same state
    with platform_running(first_run.state) as platform:
        print(f"ready {platform.seconds_to_ready} s after a start on an initialised state")

        # Then everything is there
        assert_everything_is_kept(platform, first_run)

        # And the new broker has heard of nothing that was consumed before the stop
        told_again = {
            record.headers["ce_id"]
            for topic in ("evp.users.v1", "evp.events.v1", "evp.registrations.v1")
            for record in platform.kafka_records(topic)
        }
        assert told_again, "the draft that was written since should have been sent"
        assert not told_again & first_run.history.told.keys()

        # And it fits into memory with the functions that this took
        megabytes = platform.memory_mb()
        print(f"{megabytes:.0f} MB in {len(platform.family())} processes")
        assert megabytes < IDLE_MEMORY_LIMIT_MB


def test_a_platform_that_was_killed_leaves_nothing_that_the_next_one_does_not_clean_up(first_run: FirstRun) -> None:
    # Given a platform whose Postgres hangs, so that it cannot hear of the end, and the rest of which does
    with platform_running(first_run.state) as platform:
        family = platform.family()
        postgres = platform.processes()["postgres"]
        postgres.suspend()

        # When the platform is killed
        platform.process.kill()
        platform.process.wait()

        # Then everything ends that can
        with_postgres = {postgres.pid, *(child.pid for child in postgres.children(recursive=True))}
        others = [process for process in family if process.pid not in with_postgres]
        eventually(lambda: all(map(has_ended, others)), what="the end of the other processes")
        assert not has_ended(postgres)

    # And the next start ends the rest, and works
    with platform_running(first_run.state) as platform:
        assert has_ended(postgres)
        assert all(has_ended(process) for process in family)
        assert_everything_is_kept(platform, first_run)


def test_a_busy_port_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind((HOST, 0))
        busy.listen()
        port = busy.getsockname()[1]

        refused = launch(tmp_path / "state", port=port)

        assert refused.process.wait(ENDS_WITHIN_SECONDS) == 1
    assert f"port {port} is in use; set PORT=" in refused.output
    assert "Traceback" not in refused.output
    assert not (tmp_path / "state" / "postgres").exists()


def test_a_second_platform_on_the_same_state_is_refused(platform: RunningPlatform) -> None:
    second = launch(platform.state, port=free_port())

    assert second.process.wait(ENDS_WITHIN_SECONDS) == 1
    assert f"in use by another platform, process {platform.process.pid}" in second.output
    assert "Traceback" not in second.output
    assert platform.http.get("/health").status_code == 200
    assert (platform.state / "endpoints.json").exists()


def test_ctrl_c_while_it_starts_leaves_nothing_running(tmp_path: Path) -> None:
    # Given a platform that is about to start its engines
    starting = launch(tmp_path / "state")
    try:
        eventually(lambda: starting.processes(), within=ENDS_WITHIN_SECONDS, what="the first engine")
        family = starting.family()

        # When it is interrupted
        starting.interrupt()

        # Then it ends, and its engines with it
        assert starting.process.wait(ENDS_WITHIN_SECONDS) == INTERRUPTED, starting.output
        eventually(lambda: all(map(has_ended, family)), what="the end of all its processes")
        assert "Traceback" not in starting.output
    finally:
        starting.close()


def test_a_python_that_is_too_old_gets_a_clear_sentence(tmp_path: Path) -> None:
    # Given a fresh clone, and an interpreter that says it is Python 3.9
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python3.9"
    pretend = "import sys; sys.version_info = (3, 9, 18, 'final', 0); exec(sys.argv[2])"
    old.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(pretend)} "$@"\n')
    old.chmod(0o755)

    # When the platform is to be started with it
    run = subprocess.run(["make", f"PYTHON={old}", "dev"], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    # Then nothing is installed, and the sentence says what is needed and how to go on
    assert run.returncode != 0
    assert (
        f"Events Platform needs Python 3.11, 3.12 or 3.13; {old} is 3.9. Name another one: make PYTHON=" in run.stderr
    )
    assert not (tmp_path / ".venv").exists()
