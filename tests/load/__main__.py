"""`python -m tests.load [name …] [--quick] [--json FILE]`: the benchmarks, or those named.

Everything runs on this machine's loopback, in a temporary directory and on free ports, and ends by itself. A target
that is missed is printed as such and fails nothing: figures depend on who else is using the machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from tests.load import (
    breakers,
    bridge,
    growth,
    limits,
    operations,
    outbox,
    overhead,
    projections,
    registrations,
    relay,
    startup,
)
from tests.load.report import Report
from tests.load.run import Run

BENCHES: dict[str, Callable[[Run], Awaitable[None]]] = {
    "overhead": overhead.bench,
    "startup": startup.bench,
    "projections": projections.bench,
    "operations": operations.bench,
    "limits": limits.bench,
    "registrations": registrations.bench,
    "growth": growth.bench,
    "outbox": outbox.bench,
    "relay": relay.bench,
    "breakers": breakers.bench,
    "bridge": bridge.bench,
}


async def run_benches(names: list[str], *, quick: bool, json: Path | None) -> None:
    report = Report()
    report.begin()
    with tempfile.TemporaryDirectory(prefix="events-platform-bench-") as temporary:
        run = Run(Path(temporary), report, quick)
        for name in names:
            await BENCHES[name](run)
    if json is not None:
        report.write(json)


def _summary(bench: Callable[[Run], Awaitable[None]]) -> str:
    """The first line of the module's docstring."""
    return (sys.modules[bench.__module__].__doc__ or "").partition("\n")[0]


def main() -> None:
    summaries = "\n".join(f"  {name:<12} {_summary(bench)}" for name, bench in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.load",
        description=f"Benchmarks:\n{summaries}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help="which to run; all without any")
    parser.add_argument("--quick", action="store_true", help="fewer samples: shows that it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    if unknown := set(options.names) - BENCHES.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    uvloop.run(run_benches(options.names or list(BENCHES), quick=options.quick, json=options.json))


if __name__ == "__main__":
    main()
