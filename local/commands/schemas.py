"""Writes the JSON Schemas of messages from the models, or makes them the released ones."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--release", action="store_true", help="keep them as the released ones, if they are compatible")


def run(options: argparse.Namespace) -> int:
    from local import schemas

    if not options.release:
        schemas.write(schemas.build(), schemas.DIRECTORY)
        return 0
    try:
        schemas.release()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
