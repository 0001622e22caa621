"""What an execution environment writes, as Lambda logs it: line by line, framed by START, END and REPORT."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from local.workers.faults import Fault

TAIL_BYTES = 4096  # LogType=Tail: "the last 4 KB of the execution log"

# CloudWatch Logs splits what is longer than one event can be.
LONGEST_LINE_BYTES = 262_144

_READ_BYTES = 65_536  # a pipe's capacity on Linux


class OutputPipe:
    """The read end of an environment's stdout and stderr, cut into lines."""

    def __init__(self, descriptor: int, line: Callable[[bytes], None]) -> None:
        self.descriptor = descriptor
        self._line = line
        self._partial = b""
        os.set_blocking(descriptor, False)

    def drain(self) -> bool:
        """Pass on every complete line written so far; False when there will be no more."""
        while True:
            try:
                data = os.read(self.descriptor, _READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                self._line(line)
            if len(self._partial) > LONGEST_LINE_BYTES:
                self.flush()
            if len(data) < _READ_BYTES:
                return True

    def flush(self) -> None:
        """Pass on a last line that was not ended."""
        if self._partial:
            line, self._partial = self._partial, b""
            self._line(line)


class Tail:
    """The last 4 KB of the lines added since it was cleared."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, line: bytes) -> None:
        self._bytes += line
        self._bytes += b"\n"
        if len(self._bytes) > 16 * TAIL_BYTES:
            del self._bytes[:-TAIL_BYTES]

    def clear(self) -> None:
        self._bytes.clear()

    def __bytes__(self) -> bytes:
        return bytes(self._bytes[-TAIL_BYTES:])


def start_line(request_id: str) -> bytes:
    return f"START RequestId: {request_id} Version: $LATEST".encode()


def end_line(request_id: str) -> bytes:
    return f"END RequestId: {request_id}".encode()


def report_line(
    request_id: str,
    *,
    duration_seconds: float,
    memory_mb: int,
    max_memory_bytes: int | None,
    init_seconds: float | None,
    fault: Fault | None,
) -> bytes:
    """The REPORT line; `init_seconds` is for an environment's first invocation, which is billed with it.

    The status is given where Lambda gives it: when the runtime crashed or the function timed out
    (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html). The memory used is left out
    where the operating system does not tell.
    """
    billed_ms = math.ceil((duration_seconds + (init_seconds or 0.0)) * 1000)
    parts = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {duration_seconds * 1000:.2f} ms",
        f"Billed Duration: {billed_ms} ms",
        f"Memory Size: {memory_mb} MB",
    ]
    if max_memory_bytes is not None:
        parts.append(f"Max Memory Used: {math.ceil(max_memory_bytes / 1_048_576)} MB")
    if init_seconds is not None:
        parts.append(f"Init Duration: {init_seconds * 1000:.2f} ms")
    if fault is not None and fault.status == "timeout":
        parts.append("Status: timeout")
    elif fault is not None and fault.status == "error":
        parts.append(f"Status: error\tError Type: {fault.error_type}")
    return "\t".join(parts).encode()


def init_report_line(*, duration_seconds: float, phase: str, error_type: str | None) -> bytes:
    """The line about a failed initialisation; no error type stands for a timeout."""
    status = "Status: timeout" if error_type is None else f"Status: error\tError Type: {error_type}"
    return f"INIT_REPORT Init Duration: {duration_seconds * 1000:.2f} ms\tPhase: {phase}\t{status}".encode()


class LogSink:
    """Writes each function's lines to `<directory>/<function>.log`, with the time, rotating by size.

    Call it with a function's name and a line. `observe` sees every line as well (metrics are log lines in EMF).
    Nothing is buffered: `tail -f` shows a line when it was written.
    """

    def __init__(
        self,
        directory: Path,
        *,
        observe: Callable[[str, bytes], None] | None = None,
        maximum_bytes: int = 10_000_000,
        kept_files: int = 2,
    ) -> None:
        self._directory = directory
        self._observe = observe
        self._maximum_bytes = maximum_bytes
        self._kept_files = kept_files
        self._files: dict[str, BinaryIO] = {}
        self._sizes: dict[str, int] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def __call__(self, function: str, line: bytes) -> None:
        if self._observe is not None:
            self._observe(function, line)
        file = self._files.get(function) or self._open(function)
        self._sizes[function] += file.write(b"%s %s\n" % (_timestamp(), line))
        if self._sizes[function] > self._maximum_bytes:
            self._rotate(function)

    def path(self, function: str) -> Path:
        return self._directory / f"{function}.log"

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _open(self, function: str) -> BinaryIO:
        file = self._files[function] = self.path(function).open("ab", buffering=0)
        self._sizes[function] = file.tell()
        return file

    def _rotate(self, function: str) -> None:
        """`F.log` becomes `F.log.1`, `F.log.1` becomes `F.log.2`, …; the last one is dropped."""
        self._files.pop(function).close()
        current = self.path(function)
        names = [current, *(current.with_name(f"{current.name}.{n}") for n in range(1, self._kept_files + 1))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)


def _timestamp() -> bytes:
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:23].encode() + b"Z"
