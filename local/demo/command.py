"""`python -m local demo`: loading the demo data by hand, and the progress bar that `make dev` shows as well."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from eventsplatform.clock import utc_now
from eventsplatform.errors import DependencyUnavailableError
from local.demo.loading import NotEmptyError, load
from local.demo.loading import Progress as ReportProgress
from local.demo.plan import EVENTS, REGISTRATIONS, USERS

ENDPOINTS = Path(".local/endpoints.json")


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[ReportProgress]:
    """What `load` takes for `progress`, shown as one bar per kind of thing; without a terminal only the last state."""
    bars = Progress(
        TextColumn("  {task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done)

    with bars:
        yield report


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="load the demo data into an empty database",
        description=f"Load {EVENTS:,} events, {USERS} users and about {REGISTRATIONS:,} registrations into an empty "
        "database. `make dev` does this on its own.",
    )
    parser.add_argument("--database-url", help="default: DATABASE_URL, else that of the running platform")
    parser.add_argument("--shards", type=int, default=int(os.environ.get("OUTBOX_SHARDS", "4")))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0 when loaded, 1 when the database is not empty, 2 when it cannot be reached."""
    database_url = arguments.database_url or os.environ.get("DATABASE_URL") or _running_database()
    if not database_url:
        print("Which database? Start the platform with `make dev` or give --database-url.", file=sys.stderr)
        return 2
    try:
        with progress_bar() as progress:
            report = load(database_url, shards=arguments.shards, now=utc_now(), progress=progress)
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


def _running_database() -> str | None:
    """The address the running platform has written down, if one runs here."""
    try:
        address: str | None = json.loads(ENDPOINTS.read_text(encoding="utf-8")).get("postgres")
    except FileNotFoundError:
        return None
    return address
