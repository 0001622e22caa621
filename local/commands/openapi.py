"""Prints the OpenAPI document."""

from __future__ import annotations

import argparse
import json
import sys

from local.engines import Endpoints


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    pass


def run(_options: argparse.Namespace) -> int:
    from local.openapi import build_openapi, template_directory
    from local.platform import template_overrides
    from local.template import read_application

    nowhere = Endpoints(
        postgres="postgresql://localhost/events_platform",
        redis="redis://localhost",
        kafka="localhost:9092",
        nats="nats://localhost",
        opensearch="http://localhost:9200",
    )
    application = read_application(
        template_directory() / "template.yaml",
        overrides=template_overrides(nowhere, "localhost", 80),
        aws_endpoint="http://localhost",
    )
    json.dump(build_openapi(application), sys.stdout, indent=2, ensure_ascii=False)
    print()
    return 0
