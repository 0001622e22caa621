"""Nothing outlives the platform, however it ends, and nothing else is ever killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg

from local.engines import NAMES
from local.engines.pids import CLOCK_TOLERANCE_SECONDS, Identity, PidRegistry
from tests.support.engines import engines_running
from tests.support.platform import has_ended
from tests.support.polling import eventually

PLATFORM = """
import asyncio, sys
from pathlib import Path
import psycopg
from local.engines import Engines

async def main():
    engines = Engines(Path(sys.argv[1]), environment={})
    endpoints = await engines.start()
    with psycopg.connect(endpoints.postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS id")
        print("ready", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""

OWNER = """
import subprocess, sys, time
from pathlib import Path
from local.engines.pids import PidRegistry

child = subprocess.Popen(
    [sys.executable, "-c", "import subprocess, sys; subprocess.run(['sleep', '3600'])"], start_new_session=True
)
PidRegistry(Path(sys.argv[1])).record(child.pid, "a worker")
print(child.pid, flush=True)
time.sleep(3600)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_all_engines_end_with_a_platform_that_is_killed_and_the_next_has_its_data_and_ports(tmp_path: Path) -> None:
    with start(PLATFORM, str(tmp_path)) as platform:
        assert first_line(platform) == "ready"
        ports = json.loads((tmp_path / "ports.json").read_text())
        engines = psutil.Process(platform.pid).children(recursive=True)
        assert len(engines) >= len(NAMES)

        platform.kill()

    if sys.platform == "linux":  # elsewhere nobody tells children that their parent has died: the next start ends them
        eventually(lambda: all(has_ended(engine) for engine in engines), what="all engines have ended")
    with engines_running(tmp_path) as running:
        assert all(has_ended(engine) for engine in engines)
        assert json.loads((tmp_path / "ports.json").read_text()) == ports
        with psycopg.connect(running.endpoints.postgres) as connection:
            assert connection.execute("SELECT id FROM kept").fetchall() == [(42,)]


def test_what_a_killed_owner_leaves_behind_is_ended_with_its_descendants(tmp_path: Path) -> None:
    registry = PidRegistry(tmp_path / "pids.json")
    with start(OWNER, str(tmp_path / "pids.json")) as owner:
        orphan = psutil.Process(int(first_line(owner)))
        grandchild = eventually(orphan.children)[0]
        owner.kill()
    assert not has_ended(orphan)

    assert registry.clean_up() == ["a worker"]

    assert has_ended(orphan)
    assert has_ended(grandchild)
    assert registry.clean_up() == []


def test_what_belongs_to_a_living_owner_is_left_alone(tmp_path: Path) -> None:
    with start(OWNER, str(tmp_path / "pids.json")) as owner:
        child = psutil.Process(int(first_line(owner)))

        assert PidRegistry(tmp_path / "pids.json").clean_up() == []

        assert not has_ended(child)
        owner.kill()
    assert PidRegistry(tmp_path / "pids.json").clean_up() == ["a worker"]


def test_a_process_that_was_given_a_recorded_pid_later_is_left_alone(tmp_path: Path) -> None:
    with start("import time; print('up', flush=True); time.sleep(3600)") as unrelated:
        first_line(unrelated)
        created = psutil.Process(unrelated.pid).create_time()
        gone = {"pid": unrelated.pid, "created": created - 3600.0}
        earlier = {"pid": unrelated.pid, "created": created - 2 * CLOCK_TOLERANCE_SECONDS}
        (tmp_path / "pids.json").write_text(json.dumps([{"process": earlier, "owner": gone, "what": "an engine"}]))

        assert PidRegistry(tmp_path / "pids.json").clean_up() == []
        assert not has_ended(psutil.Process(unrelated.pid))

        # The control: with its true creation time the same process is ended.
        true = {"pid": unrelated.pid, "created": created}
        (tmp_path / "pids.json").write_text(json.dumps([{"process": true, "owner": gone, "what": "an engine"}]))
        assert PidRegistry(tmp_path / "pids.json").clean_up() == ["an engine"]
        assert has_ended(psutil.Process(unrelated.pid))


def test_a_process_that_is_gone_already_is_not_recorded(tmp_path: Path) -> None:
    with start("") as process:
        process.wait()
    registry = PidRegistry(tmp_path / "pids.json")

    registry.record(process.pid, "an engine")

    assert registry.clean_up() == []


def test_identity_is_not_found_once_the_process_waits_to_be_reaped(tmp_path: Path) -> None:
    process = start("import time; time.sleep(3600)")
    identity = Identity.of(process.pid)
    assert identity.find()

    process.kill()

    eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    assert identity.find() is None
    process.wait()
