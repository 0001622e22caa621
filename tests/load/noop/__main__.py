"""`python -m tests.load.noop <log directory>`: serves the functions, says where, and ends when its input does."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from starlette.responses import Response

from local.gateway import Gateway, serve
from local.metrics import EmfMetrics, LambdaMetrics
from local.workers import Workers
from local.workers.logs import LogSink
from tests.load.noop.application import APPLICATION, FUNCTIONS


async def main(logs: Path) -> None:
    """Logs and metrics are kept as the platform keeps them: that is part of what an invocation costs."""
    metrics = EmfMetrics()
    sink = LogSink(logs, observe=metrics.observe)
    workers = Workers(FUNCTIONS, log=sink, observer=LambdaMetrics(metrics.registry), watch=False)
    await workers.start()
    try:
        async with serve(Gateway(APPLICATION, workers, extras={"/bare": Response(b"{}")}), port=0) as port:
            print(f"http://127.0.0.1:{port}", flush=True)
            await asyncio.to_thread(sys.stdin.read)
    finally:
        await workers.stop()
        sink.close()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
