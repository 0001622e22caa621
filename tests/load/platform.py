"""The platform as `make dev` runs it, with the demo data, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from eventsplatform.search.index import INDEX
from tests.load.run import Run
from tests.support.platform import (
    ROOT,
    STOPS_WITHIN_SECONDS,
    RunningPlatform,
    free_port,
    platform_environment,
)
from tests.support.polling import eventually

START_WITHIN_SECONDS = 300.0
IDLE_WITHIN_SECONDS = 300.0
IDLE_CORES = 0.5
IDLE_FOR_SECONDS = 2.0


@contextmanager
def platform_started(state: Path, *, demo: bool) -> Iterator[tuple[RunningPlatform, float]]:
    """A platform on this state, and the seconds from its process' start to its word that it is ready."""
    state.mkdir(parents=True, exist_ok=True)
    output = state / f"output-{time.time_ns()}.txt"
    environment = platform_environment(state, free_port()) | {"DEMO": "1" if demo else "0"}
    started = time.monotonic()
    with output.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "local", "dev"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    platform = RunningPlatform(process, state, output)
    try:
        eventually(lambda: _ready_or_ended(platform), within=START_WITHIN_SECONDS, every=0.01, what="a ready platform")
        seconds = time.monotonic() - started
        if process.poll() is not None:
            raise RuntimeError(f"the platform ended:\n{platform.output}")
        yield platform, seconds
        process.send_signal(signal.SIGINT)
        process.wait(STOPS_WITHIN_SECONDS)
    finally:
        platform.close()


@contextmanager
def demo_platform(run: Run) -> Iterator[RunningPlatform]:
    """A platform that has the demo data and has caught up with them. All benchmarks of a run share the state."""
    with platform_started(run.demo_state, demo=True) as (platform, _):
        wait_until_idle(platform)
        yield platform


def wait_until_idle(platform: RunningPlatform) -> float:
    """Wait until the platform has come to rest: all is published and indexed, and it takes next to no processor time.

    Returns the cores it then takes. Raises AssertionError when it does not come to rest.
    """
    usage = 0.0

    def idle() -> bool:
        nonlocal usage
        if not _caught_up(platform):
            return False
        before, began = _cpu_seconds(platform), time.monotonic()
        time.sleep(IDLE_FOR_SECONDS)
        usage = (_cpu_seconds(platform) - before) / (time.monotonic() - began)
        return usage < IDLE_CORES

    eventually(idle, within=IDLE_WITHIN_SECONDS, every=0.2, what="a platform at rest")
    return usage


def memory_mb(platform: RunningPlatform) -> float:
    """The proportional set size of all of the platform's processes: what they share is counted once."""
    total = 0
    for process in platform.family():
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue  # it has just ended
    return total / 1_048_576


def _ready_or_ended(platform: RunningPlatform) -> bool:
    return platform.process.poll() is not None or "is ready after" in platform.output


def _caught_up(platform: RunningPlatform) -> bool:
    """Whether Kafka has had every change and the search index, which is made anew at each start, has every event."""
    (counts,) = platform.sql(
        """
        SELECT (SELECT count(*) FROM messaging.outbox WHERE published_at IS NULL) AS pending,
               (SELECT count(*) FROM catalog.events WHERE status <> 'draft') AS events
        """
    )
    answer = httpx.get(f"{platform.endpoints['opensearch']}/{INDEX}/_count", trust_env=False)
    indexed = answer.json()["count"] if answer.status_code == 200 else 0
    return bool(counts["pending"] == 0 and indexed == counts["events"])


def _cpu_seconds(platform: RunningPlatform) -> float:
    total = 0.0
    for process in platform.family():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it has just ended
        total += times.user + times.system
    return total
