"""How each engine, each AWS service and each other service is called: one table, and nobody is called without a row.

What an invocation has left caps all of it (`deadline`). Failures are repeated at one layer each, the one named in the
row, and only what may be done twice. A breaker opens after so many failures in a row, refuses calls for its recovery
time, and then lets one through. It stands in the execution environment, for what one of them sees (docs/decisions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class CallPolicy:
    """`called` is what callers are told it is. Times are in seconds; `timeout` is of one attempt.

    `longest_wait` caps the exponential back-off between attempts, of which a random part is waited. A breaker that
    opens after no failures is none.
    """

    called: str
    timeout: float
    attempts: int = 1
    longest_wait: float = 0.0
    opens_after: int = 0
    recovery: float = 0.0


CALL_POLICIES: Mapping[str, CallPolicy] = {
    # A statement is sent once: whether it had its effect cannot be known. What is repeated is connecting, where it was
    # refused at once (`adapters.postgres`). The server gives up a statement a second before this (`ROLE_SETTINGS`).
    "postgres": CallPolicy("database", timeout=6.0, attempts=2, longest_wait=0.2, opens_after=2, recovery=3.0),
    "postgres connect": CallPolicy("database", timeout=3.0),
    # Everything is answered without it: slowly, so it is not waited for long. Repeated by redis-py.
    "redis": CallPolicy("cache", timeout=0.25, attempts=2, longest_wait=0.1, opens_after=3, recovery=1.0),
    # On the way of every request. Its breaker is the gate's own, for it has to know what was missed meanwhile.
    "gate": CallPolicy("cache", timeout=0.25, opens_after=1, recovery=1.0),
    # Searches and documents with a version may come twice. Repeated by our transport.
    "opensearch": CallPolicy("search engine", timeout=3.0, attempts=3, longest_wait=0.3, opens_after=3, recovery=3.0),
    # Until a message is acknowledged or its time is up; repeated by librdkafka's idempotent producer.
    "kafka": CallPolicy("message broker", timeout=10.0, opens_after=2, recovery=3.0),
    # What is not stored is delivered again by the mapping, so nothing repeats it here.
    "nats": CallPolicy("message bus", timeout=2.0, opens_after=3, recovery=3.0),
    # Another service's function. A connection that broke and a refusal of Lambda are repeated, by botocore; one that
    # did not answer in time is not, for it may still run. There is a breaker for each function.
    "function": CallPolicy(
        "service behind this one", timeout=5.0, attempts=3, longest_wait=1.0, opens_after=3, recovery=3.0
    ),
    # Handing over an event: who does it has already answered, or can do without.
    "event": CallPolicy("service behind this one", timeout=1.0, opens_after=3, recovery=3.0),
    # AWS services, by the name of their client; repeated by botocore.
    "secretsmanager": CallPolicy(
        "secret store", timeout=5.0, attempts=3, longest_wait=1.0, opens_after=3, recovery=5.0
    ),
    # Two attempts are over after six seconds; SES has been seen to take one. A mail may arrive twice.
    "sesv2": CallPolicy("mail service", timeout=3.0, attempts=2, longest_wait=1.0, opens_after=5, recovery=10.0),
    # Frames for one client each: one that is slow must not hold up, nor a breaker silence, everyone else in the room.
    "apigatewaymanagementapi": CallPolicy("connection", timeout=1.0),
    # Signs tokens for the database, and calls nobody.
    "rds": CallPolicy("database", timeout=1.0),
    # Each address that users gave is a dependency of its own, and those who call it keep a schedule of their own. As
    # long as Standard Webhooks asks senders to wait.
    "outbound": CallPolicy("address", timeout=15.0),
}
