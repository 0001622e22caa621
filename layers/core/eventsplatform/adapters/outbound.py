"""Calling addresses that users gave, and looking up where they lead.

A name is looked up once, every address of it must be public, and the connection goes to one of these addresses: what
the name leads to a moment later (DNS rebinding) is not asked. The certificate must be the name's. Redirects are
answers like others. An exchange as a whole has a time limit, the look-up included, which neither `requests` nor
urllib3 have: theirs are for each read, so a server that sends a byte now and then holds its caller for ever.
"""

from __future__ import annotations

import http.client
import math
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eventsplatform.call_policies import CALL_POLICIES
from eventsplatform.outbound import (
    HTTPS_PORTS,
    NotPublicError,
    PublicUrl,
    UnreachableError,
    is_public,
    parse_public_url,
)
from eventsplatform.transactions import require_no_locks

LOOK_UP_SECONDS = 2.0

Resolver = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True)
class OutboundAnswer:
    """`body` is the beginning of what was sent, as it was sent, of at most the size asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_complete: bool


class Outbound:
    """HTTPS to hosts of the public internet. `admits` and `context` are others in tests alone."""

    def __init__(
        self,
        *,
        resolve: Resolver | None = None,
        admits: Callable[[str], bool] = is_public,
        context: ssl.SSLContext | None = None,
        ports: Collection[int] = HTTPS_PORTS,
    ) -> None:
        self._resolve = resolve or _look_up
        self._admits = admits
        self._context = context
        self._ports = ports

    def refuse_private(self, url: str) -> None:
        """Raises NotPublicError for a URL whose name leads to an address that is not public.

        For URLs that others call: a name that leads nowhere, or is not looked up in time, is none of our business.
        """
        target = parse_public_url(url, ports=self._ports)
        try:
            self._addresses(target, time.monotonic() + LOOK_UP_SECONDS)
        except UnreachableError:
            return

    def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        within_seconds: float = CALL_POLICIES["outbound"].timeout,
        answer_bytes: int = 65_536,
    ) -> OutboundAnswer:
        """The answer, whatever its status.

        Raises NotPublicError when the URL or what its name leads to is not public, UnreachableError when no answer
        has come in time or the certificate is not the host's.
        """
        require_no_locks(url.partition("?")[0])
        deadline = time.monotonic() + within_seconds
        target = parse_public_url(url, ports=self._ports)
        addresses = self._addresses(target, deadline)
        try:
            connection = self._connect(target, addresses, deadline)
        except OSError as error:
            raise UnreachableError(f"no connection: {_reason(error)}") from error
        try:
            connection.request("POST", target.target, body, {**headers, **_FIXED_HEADERS})
            answer = connection.getresponse()
            content = answer.read(answer_bytes + 1)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"no answer: {_reason(error)}") from error
        finally:
            connection.close()
        received = {name.lower(): value for name, value in answer.getheaders()}
        return OutboundAnswer(answer.status, received, content[:answer_bytes], len(content) <= answer_bytes)

    def _addresses(self, target: PublicUrl, deadline: float) -> list[str]:
        """Those of the host, all of them public. Raises NotPublicError or UnreachableError."""
        seconds = min(LOOK_UP_SECONDS, deadline - time.monotonic())
        found = _within(seconds, lambda: self._resolve(target.host, target.port))
        if not found:
            raise UnreachableError("the name leads nowhere")
        if not all(map(self._admits, found)):
            raise NotPublicError("must lead to the public internet")
        return list(dict.fromkeys(found))

    def _connect(self, target: PublicUrl, addresses: Sequence[str], deadline: float) -> _Connection:
        """A connection to the first of these addresses that takes one. Raises OSError."""
        failure = OSError("timed out")
        for number, address in enumerate(addresses):
            # A share of the time for each, so that one that keeps silent leaves some for the next.
            share = (deadline - time.monotonic()) / (len(addresses) - number)
            if share <= 0:
                break
            try:
                return self._connect_to(address, target, time.monotonic() + share, deadline)
            except OSError as error:
                failure = error
        raise failure

    def _connect_to(self, address: str, target: PublicUrl, by: float, deadline: float) -> _Connection:
        plain = socket.create_connection((address, target.port), by - time.monotonic())
        try:
            plain.settimeout(max(0.001, by - time.monotonic()))
            secured = (self._context or _context()).wrap_socket(plain, server_hostname=target.host)
        except OSError:
            plain.close()
            raise
        assert isinstance(secured, _TimedSocket)
        secured.deadline = deadline
        connection = _Connection(target.host, target.port)
        connection.sock = secured
        return connection


# Asked for as it is: what is packed small may be large.
_FIXED_HEADERS = {"Accept-Encoding": "identity", "Connection": "close"}


class _Connection(http.client.HTTPConnection):
    """Speaks over the socket that it is given, and opens none itself."""

    default_port = 443
    auto_open = 0


class _TimedSocket(ssl.SSLSocket):
    """Every read and write ends by the deadline, in the clock of time.monotonic."""

    deadline = math.inf

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self._limit()
        return super().recv_into(*arguments, **options)

    def send(self, *arguments: Any, **options: Any) -> int:
        self._limit()
        return super().send(*arguments, **options)

    def _limit(self) -> None:
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        self.settimeout(None if remaining == math.inf else remaining)


def timed_context(**options: Any) -> ssl.SSLContext:
    """`ssl.create_default_context` for connections with a deadline."""
    context = ssl.create_default_context(**options)
    context.sslsocket_class = _TimedSocket
    return context


@cache
def _context() -> ssl.SSLContext:
    """Once per environment: reading the certificates takes 10 ms and more."""
    return timed_context()


def _look_up(host: str, port: int) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        return []
    return [str(address[0]) for *_, address in found]


def _within(seconds: float, look_up: Callable[[], Sequence[str]]) -> Sequence[str]:
    """The system's resolver knows no time limit: it works in a thread that is left behind when it takes too long."""
    answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put(look_up())
        except Exception as error:
            answers.put(error)

    threading.Thread(target=work, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise UnreachableError("the name was not looked up in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


@cache
def outbound() -> Outbound:
    return Outbound()
