"""boto3 clients of the local AWS endpoint."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from local.application import REGION


def aws_client(service: str, endpoint: str, **settings: Any) -> Any:
    """A client with the credentials that everything local uses; `settings` go to botocore's `Config`.

    Creating one takes tens of milliseconds of CPU; using one from several threads is safe.
    """
    create_client: Any = boto3.session.Session().client  # typed for every service there is, none of them `str`
    return create_client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - the emulation checks none
        config=Config(**{"retries": {"mode": "standard", "total_max_attempts": 5}, **settings}),
    )
