"""boto3 clients of the local AWS endpoint."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from local.application import REGION

_creation = threading.Lock()


@cache
def _session() -> Any:
    return boto3.session.Session()


def aws_client(service: str, endpoint: str, **settings: Any) -> Any:
    """A client with the credentials that everything local uses; `settings` go to botocore's `Config`.

    The first takes a tenth of a second of CPU, others much less: they share a session, which only one thread at a
    time may create clients from. The clients themselves are safe to use from several.
    """
    with _creation:
        return _session().client(
            service,
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - the emulation checks none
            config=Config(**{"retries": {"mode": "standard", "total_max_attempts": 5}, **settings}),
        )
