"""One platform per state directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from local.engines.engine import EngineError


class StateLock:
    """Held from `acquire` to `release` or to the end of the process, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Raises EngineError naming the process that holds it."""
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise EngineError(
                f"{self._path.parent} is in use by another platform, process {holder}; stop that one first"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
