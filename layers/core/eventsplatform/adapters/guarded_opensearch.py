"""opensearch-py under the policy of the table. Imported with the first client: it brings opensearch-py with it.

The client's own retries follow each other without a pause, so they are off.
"""

from __future__ import annotations

from typing import Any

from opensearchpy import OpenSearch, Transport, Urllib3AWSV4SignerAuth, Urllib3HttpConnection
from opensearchpy.exceptions import ConnectionError, ConnectionTimeout, TransportError

from eventsplatform.adapters.breakers import breaker, repeated
from eventsplatform.config import SearchSettings

# Too many requests, and what a proxy or a node without a leader says.
_OVERLOADED = frozenset({429, 502, 503, 504})


def connect(settings: SearchSettings) -> OpenSearch:
    signer: Any = None
    if settings.aws_signed:
        import boto3

        session = boto3.Session()
        signer = Urllib3AWSV4SignerAuth(session.get_credentials(), session.region_name, "es")
    return OpenSearch(
        hosts=[settings.url],
        http_auth=signer,
        connection_class=Urllib3HttpConnection,
        transport_class=GuardedTransport,
        timeout=settings.timeout_seconds,
        max_retries=0,
    )


class GuardedTransport(Transport):
    def perform_request(self, *arguments: Any, **options: Any) -> Any:
        """All that is asked of it may be asked twice: searches, and documents that have a version."""
        perform = super().perform_request
        with breaker("opensearch", is_outage=is_outage):
            return repeated("opensearch", lambda: perform(*arguments, **options), _may_pass)


def is_outage(error: BaseException) -> bool:
    if isinstance(error, ConnectionError):
        return True
    return isinstance(error, TransportError) and error.status_code in _OVERLOADED


def _may_pass(error: BaseException) -> bool:
    """Not one that was waited for in vain: it would only be waited for again."""
    return is_outage(error) and not isinstance(error, ConnectionTimeout)
