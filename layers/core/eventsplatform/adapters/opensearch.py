"""OpenSearch: one client per execution environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from eventsplatform.config import SearchSettings
from eventsplatform.errors import DependencyUnavailableError

if TYPE_CHECKING:
    from opensearchpy import OpenSearch


@cache
def opensearch_client() -> OpenSearch:
    from opensearchpy import OpenSearch, Urllib3AWSV4SignerAuth, Urllib3HttpConnection

    settings = SearchSettings.from_environment()
    signer: Any = None
    if settings.aws_signed:
        import boto3

        session = boto3.Session()
        signer = Urllib3AWSV4SignerAuth(session.get_credentials(), session.region_name, "es")
    return OpenSearch(
        hosts=[settings.url],
        http_auth=signer,
        connection_class=Urllib3HttpConnection,
        timeout=settings.timeout_seconds,
        max_retries=2,
        retry_on_timeout=False,
        retry_on_status=(502, 503, 504),
    )


@contextmanager
def opensearch_required() -> Iterator[OpenSearch]:
    """Connection failures, time-outs and overload become DependencyUnavailableError; other errors pass."""
    from opensearchpy.exceptions import ConnectionError as SearchConnectionError
    from opensearchpy.exceptions import TransportError

    try:
        yield opensearch_client()
    except SearchConnectionError as error:
        raise DependencyUnavailableError("search engine") from error
    except TransportError as error:
        if error.status_code in (429, 502, 503, 504):
            raise DependencyUnavailableError("search engine") from error
        raise
