"""Tickets: how a browser, which can set no header on a WebSocket, connects without a token in a URL.

A URL ends up in logs and histories. A ticket in it is worth nothing there: it is good for one connection, within half
a minute (OWASP WebSocket Security Cheat Sheet; RFC 6750 §5.3 on why no token).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Protocol

from pydantic import BaseModel, Field

from eventsplatform.errors import UnauthenticatedError
from eventsplatform.identity.caller import Caller

TICKET_SECONDS = 30
_TICKET_BYTES = 32


class Ticket(BaseModel):
    """The answer to `POST /v1/realtime/tickets`."""

    ticket: str = Field(description="Good for one connection: `/ws?ticket=…`.")
    expires_in: int = Field(default=TICKET_SECONDS, description="Seconds until the ticket is worth nothing.")


class TicketStore(Protocol):
    """Raises DependencyUnavailableError."""

    def put(self, ticket_hash: str, context: Mapping[str, str], seconds: int) -> None: ...

    def take(self, ticket_hash: str) -> Mapping[str, str] | None:
        """The context, at most once."""


class Tickets:
    """Kept as hashes: who reads the store can connect as nobody."""

    def __init__(self, store: TicketStore) -> None:
        self._store = store

    def issue(self, caller: Caller) -> Ticket:
        ticket = secrets.token_urlsafe(_TICKET_BYTES)
        self._store.put(_hash(ticket), caller.as_context(), TICKET_SECONDS)
        return Ticket(ticket=ticket)

    def redeem(self, ticket: str) -> Caller:
        """Whose ticket it is; it is used up then. Raises UnauthenticatedError."""
        context = self._store.take(_hash(ticket))
        if context is None:
            raise UnauthenticatedError("The ticket is not valid: it was used, or is older than half a minute.")
        return Caller.from_context(context)


def _hash(ticket: str) -> str:
    return hashlib.sha256(ticket.encode(errors="surrogatepass")).hexdigest()
