"""The functions, served by a process of their own; and one event of theirs, for calling them without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from local.gateway import Gateway
from local.workers import Invocation
from tests.load.noop.application import APPLICATION
from tests.load.processes import python


@asynccontextmanager
async def noop_server(directory: Path) -> AsyncIterator[str]:
    """The URL of a gateway that serves `/plain`, `/http` and, without any function, `/bare`."""
    errors = directory / "noop.err"
    async with python("-m", "tests.load.noop", str(directory / "noop-logs"), errors=errors) as process:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise RuntimeError(f"the no-op gateway did not start:\n{errors.read_text()}")
        yield url


async def event_of(path: str, headers: dict[str, str]) -> dict[str, Any]:
    """The event that the gateway makes of this request."""
    recorder = _Recorder()
    gateway = Gateway(APPLICATION, recorder)
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(_message: dict[str, Any]) -> None:
        return None

    await gateway(scope, receive, send)
    event: dict[str, Any] = orjson.loads(recorder.payload)
    return event


class _Recorder:
    """Stands for the workers, and keeps what it is called with."""

    payload = b""

    async def invoke(self, name: str, payload: bytes, *, trace_id: str | None = None) -> Invocation:
        self.payload = payload
        return Invocation(request_id="", payload=b"{}", function_error=None, log_tail=b"")
