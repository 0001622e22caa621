"""`python -m local demo`: loads the demo data, by hand or for `make dev`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from eventsplatform.clock import utc_now
from eventsplatform.errors import DependencyUnavailableError
from local.commands.endpoints import STATE, running_endpoints
from local.demo.loading import NotEmptyError, load
from local.demo.loading import Progress as ReportProgress
from local.demo.plan import EVENTS, REGISTRATIONS, USERS


@contextmanager
def progress_bar() -> Iterator[ReportProgress]:
    """What `load` takes for `progress`, shown as one bar per kind of thing; without a terminal only the last state."""
    bars = Progress(TextColumn("  {task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done)

    with bars:
        yield report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        f"{EVENTS:,} events, {USERS} users, about {REGISTRATIONS:,} registrations; `make dev` does it alone."
    )
    parser.add_argument("--database-url", help="default: that of the running platform")
    parser.add_argument("--shards", type=int, default=4, help="as the template's OutboxShards")
    parser.add_argument("--state", type=Path, default=STATE, help="the platform's state directory")


def run(options: argparse.Namespace) -> int:
    """0 when loaded, 1 when the database is not empty, 2 when it cannot be reached."""
    database_url = options.database_url
    if database_url is None:
        endpoints = running_endpoints(options.state)
        if endpoints is None:
            return 2
        database_url = endpoints["postgres"]
    try:
        with progress_bar() as progress:
            report = load(database_url, shards=options.shards, now=utc_now(), progress=progress)
    except NotEmptyError as error:
        print(error, file=sys.stderr)
        return 1
    except DependencyUnavailableError as error:
        print(error.detail, file=sys.stderr)
        return 2
    print(
        f"{report.users} users, {report.events:,} events in {report.cities} cities and {report.registrations:,} "
        f"registrations ({report.waitlisted:,} waiting) in {report.seconds:.0f} s. The relay sends the messages "
        "within a minute."
    )
    return 0
