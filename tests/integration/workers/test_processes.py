"""Nothing outlives the platform, and the platform outlives its processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.workers.conftest import Run
from tests.integration.workers.harness import alive, begun, call, error, function, meeting, running
from tests.support.polling import eventually, eventually_async

# A parent that starts workers, has one idle and one busy environment, and tells their pids.
PARENT = """
import asyncio, json, os, sys
from pathlib import Path
from tests.integration.workers.harness import begun, call, function, running

async def main():
    async with running(function("counter"), function("waits", timeout_seconds=60), pids=Pids()) as workers:
        busy = asyncio.create_task(call(workers, "waits", json.loads(sys.argv[1])))
        idle = (await call(workers, "counter"))["pid"]
        await begun(json.loads(sys.argv[1]))
        print(json.dumps([fork_server[0], idle, int(Path(json.loads(sys.argv[1])["begun"]).read_text())]), flush=True)
        await busy

class Pids:
    def record(self, pid, what): fork_server.append(pid)
    def forget(self, pid): pass

fork_server = []
asyncio.run(main())
"""


class Pids:
    """What a pid registry was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def record(self, pid: int, what: str) -> None:
        assert what == "fork server"
        self.events.append(("record", pid))

    def forget(self, pid: int) -> None:
        self.events.append(("forget", pid))


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_parent(tmp_path: Path, ending: signal.Signals) -> None:
    event = json.dumps(dict(meeting(tmp_path)))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, event], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = json.loads(parent.stdout.readline())
    assert all(map(alive, pids))

    parent.send_signal(ending)
    parent.wait()

    eventually(lambda: not any(map(alive, pids)), what="fork server and environments gone")
    parent.stdout.close()


def test_a_killed_fork_server_is_replaced_and_its_environments_count_as_crashed(run: Run, tmp_path: Path) -> None:
    pids, reports, event = Pids(), list[str](), meeting(tmp_path)

    async def scenario() -> None:
        async with running(function("waits"), function("counter"), pids=pids, report=reports.append) as workers:
            idle = (await call(workers, "counter"))["pid"]
            in_flight = asyncio.create_task(workers.invoke("waits", json.dumps(event).encode()))
            busy = await begun(event)
            os.kill(pids.events[0][1], signal.SIGKILL)

            crashed = await in_flight
            assert error(crashed) == {
                "errorType": "Runtime.ExitError",
                "errorMessage": f"RequestId: {crashed.request_id} Error: Runtime exited with error: signal: killed",
            }
            assert (await call(workers, "counter"))["pid"] != idle

            async def gone() -> bool:
                return not alive(idle) and not alive(busy)

            await eventually_async(gone, what="environments of the killed server gone")

    run(scenario())

    first, second = pids.events[0][1], pids.events[2][1]
    assert pids.events == [("record", first), ("forget", first), ("record", second), ("forget", second)]
    assert len(reports) == 1


def test_a_process_started_by_a_function_ends_with_its_environment(run: Run, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "def handler(event, context):\n"
        "    if event:\n"
        "        time.sleep(600)\n"
        "    return child.pid\n"
    )

    async def scenario() -> int:
        async with running(function("parent", code=tmp_path, timeout_seconds=0.5)) as workers:
            child = await call(workers, "parent")
            assert alive(child)
            assert error(await workers.invoke("parent", b"1"))["errorType"] == "Sandbox.Timedout"

            async def gone() -> bool:
                return not alive(child)

            await eventually_async(gone, what="the function's own child gone")
            return child

    assert run(scenario())


def test_environments_leave_no_descriptors_behind(run: Run) -> None:
    def open_descriptors() -> int:
        return len(os.listdir("/dev/fd"))

    async def scenario() -> tuple[int, int]:
        async with running(function("crashes")) as workers:
            await workers.invoke("crashes", b'{"status": 1}')
            before = open_descriptors()
            for _ in range(5):
                await workers.invoke("crashes", b'{"status": 1}')

            async def settled() -> bool:
                return open_descriptors() <= before

            await eventually_async(settled, what="descriptors closed")
            return before, open_descriptors()

    before, after = run(scenario())
    assert after <= before
