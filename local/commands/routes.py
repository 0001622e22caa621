"""Checks the file of routes between Kafka and NATS, and prints what goes where."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from eventsplatform.messaging.routes import Routes
from eventsplatform.messaging.routes_file import ROUTES_FILE, RoutesError, read_routes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, default=ROUTES_FILE, help="default: the one that is deployed")


def run(options: argparse.Namespace) -> int:
    try:
        routes = read_routes(options.file)
    except (RoutesError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    rows = [("route", "from", "to", "key"), *_rows(routes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _rows(routes: Routes) -> Iterator[tuple[str, str, str, str]]:
    for out in routes.to_nats:
        for topic in sorted(out.topics):
            what = topic if out.type.text == ">" else f"{topic} ({out.type.text})"
            yield out.name, what, f"{out.stream.name}: {out.subject.text}", "-"
    for back in routes.from_nats:
        yield back.name, f"{back.stream.name}: {back.subject.text}", f"{back.topic} ({back.type.text})", back.key.text
