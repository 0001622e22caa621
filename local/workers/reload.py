"""Notices that code has changed, so that functions run what is on disk: `make dev` is a development server."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path

import watchfiles

# How often to look whether a watched directory was replaced by another of the same name (a branch was switched);
# the operating system's notifications stay with the one that is gone.
REPLACED_CHECK_MS = 1000


class CodeWatcher:
    """Calls `changed` with the watched directories below which a file was changed, added or deleted.

    Changes that come together (a save, a checkout) are reported together. Caches, version control and editors'
    temporary files do not count (`watchfiles.DefaultFilter`).
    """

    def __init__(self, changed: Callable[[set[Path]], None], report: Callable[[str], None]) -> None:
        self._changed = changed
        self._report = report
        self._task: asyncio.Task[None] | None = None

    def watch(self, directories: Iterable[Path]) -> None:
        """Watch these directories, and no longer those of an earlier call; from the event loop's next turn on."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._watch(frozenset(directories)), name="code watcher")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(f"code is no longer watched: {error}")  # the system's limit on watches, most often

    async def _watch(self, directories: frozenset[Path]) -> None:
        resolved = {directory.resolve(): directory for directory in directories}
        while True:
            watched = _identities(resolved)
            if not watched:
                await asyncio.sleep(REPLACED_CHECK_MS / 1000)
                continue
            changes = watchfiles.awatch(*watched, yield_on_timeout=True, rust_timeout=REPLACED_CHECK_MS)
            async with contextlib.aclosing(changes):
                async for batch in changes:
                    files = [Path(path) for _, path in batch]
                    now = _identities(resolved)
                    touched = {path for path in resolved if any(file.is_relative_to(path) for file in files)}
                    touched |= {path for path, _ in now.items() ^ watched.items()}
                    if touched:
                        _forget_bytecode(files)
                        self._changed({resolved[path] for path in touched})
                    if now != watched:
                        break


def _identities(directories: Iterable[Path]) -> dict[Path, int]:
    """The inode of each directory that exists."""
    return {directory: directory.stat().st_ino for directory in directories if directory.is_dir()}


def _forget_bytecode(files: Iterable[Path]) -> None:
    """Python tells stale bytecode by the source's size and whole second of change: two quick edits may look alike."""
    for file in files:
        if file.suffix == ".py":
            Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
