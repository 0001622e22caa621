"""Processes that must not outlive the platform, remembered on disk so that the next start can end them.

A pid alone proves nothing: the kernel hands it out again. What is recorded is the pid together with the process's
creation time, and only a process that has both is ever killed. Each entry also names the process that recorded it
(its owner); entries of a living owner are left alone, so several owners can share one file.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

# The system clock enters into creation times (psutil adds the boot time, which Linux gives in whole seconds and which
# moves when the clock is set), so the same process can be seen with times this far apart.
CLOCK_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True)
class Identity:
    """A process, unlike a pid, that existed once."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Raises psutil.NoSuchProcess."""
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process, if it still runs. One that only waits to be reaped does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) <= CLOCK_TOLERANCE_SECONDS
        except psutil.NoSuchProcess:
            return None
        return process if same and not _has_ended(process) else None


@dataclass(frozen=True)
class Entry:
    process: Identity
    owner: Identity
    what: str


class PidRegistry:
    """The file that holds the entries. Safe for use by several processes and threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")

    def record(self, pid: int, what: str) -> None:
        """Remember a process that this one is responsible for. One that is gone already is not remembered."""
        try:
            entry = Entry(Identity.of(pid), Identity.of(os.getpid()), what)
        except psutil.NoSuchProcess:
            return
        with self._locked():
            self._write([*(other for other in self._read() if other.process.pid != pid), entry])

    def forget(self, pid: int) -> None:
        with self._locked():
            self._write([entry for entry in self._read() if entry.process.pid != pid])

    def clean_up(self, *, within: float = 10.0) -> list[str]:
        """Kill what owners that are gone have left behind, descendants included; returns what that was.

        Blocks until the killed have ended. Raises TimeoutError if some have not `within` seconds.
        """
        with self._locked():
            entries = self._read()
            left_behind = [entry for entry in entries if entry.owner.find() is None]
            killed = [entry.what for entry in left_behind if _kill_tree(entry.process, within=within)]
            self._write([entry for entry in entries if entry not in left_behind])
        return killed

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> list[Entry]:
        try:
            stored = json.loads(self._path.read_text())
        except FileNotFoundError:
            return []
        return [Entry(Identity(**item["process"]), Identity(**item["owner"]), item["what"]) for item in stored]

    def _write(self, entries: list[Entry]) -> None:
        written = self._path.with_name(self._path.name + ".new")
        written.write_text(json.dumps([asdict(entry) for entry in entries], indent=1))
        written.replace(self._path)


def _kill_tree(identity: Identity, *, within: float) -> bool:
    """Whether there was anything to kill."""
    process = identity.find()
    if process is None:
        return False
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()  # psutil itself refuses when the pid has changed hands meanwhile
    deadline = time.monotonic() + within
    while not all(_has_ended(member) for member in family):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {identity.pid} does not end after SIGKILL")
        time.sleep(0.01)
    return True


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
