"""Compares every projection of the platform that is running here with the event store, and prints each difference."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg

from local.commands.endpoints import STATE, running_endpoints
from local.verification import Difference, verify
from local.verification.verifying import WITHIN_SECONDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code: 0 without differences, 1 with some, 2 when an engine cannot be reached."
    parser.add_argument("--event", type=int, help="only this event, its registrations and its counts")
    parser.add_argument(
        "--within",
        type=float,
        default=WITHIN_SECONDS,
        metavar="SECONDS",
        help="how long to wait for messages while none of those that are missing arrives; default: %(default)g",
    )
    parser.add_argument("--json", action="store_true", help="a JSON object on each line")
    parser.add_argument("--state", type=Path, default=STATE, help="the platform's state directory")


def run(options: argparse.Namespace) -> int:
    endpoints = running_endpoints(options.state)
    if endpoints is None:
        return 2
    tell: Callable[[Difference], object] = _print_json if options.json else print
    try:
        report = verify(
            endpoints["postgres"], endpoints["opensearch"], event=options.event, within=options.within, tell=tell
        )
    except (psycopg.OperationalError, httpx.HTTPError) as error:
        print(f"The platform's engines do not answer: {error}", file=sys.stderr)
        return 2
    print(
        f"{report.rows:,} rows compared in {report.seconds:.1f} s: {report.differences or 'no'} "
        f"difference{'s' if report.differences != 1 else ''}.",
        file=sys.stderr if options.json else sys.stdout,
    )
    return 1 if report.differences else 0


def _print_json(difference: Difference) -> None:
    print(json.dumps(dataclasses.asdict(difference), default=str))
