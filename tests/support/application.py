"""The application that template.yaml declares, with addresses of engines or of none."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from local.application import Application
from local.engines import Endpoints
from local.platform import template_overrides
from local.template import read_application

ROOT = Path(__file__).resolve().parents[2]

NOWHERE = Endpoints(
    postgres="postgresql://127.0.0.1:1/nowhere",
    redis="redis://127.0.0.1:1",
    kafka="127.0.0.1:1",
    nats="nats://127.0.0.1:1",
    opensearch="http://127.0.0.1:1",
    aws="http://127.0.0.1:1",
    moto="http://127.0.0.1:1",
)


@cache
def template_application(endpoints: Endpoints = NOWHERE) -> Application:
    return read_application(
        ROOT / "template.yaml",
        overrides=template_overrides(endpoints, "127.0.0.1", 1),
        aws_endpoint=endpoints.aws,
    )
