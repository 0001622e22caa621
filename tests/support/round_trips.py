"""A TCP proxy that counts round trips, for tests of how chatty a client is."""

from __future__ import annotations

import socket
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

SAMPLES = 5


class CountingProxy:
    """Forwards connections to one server; `round_trips` grows when the client speaks after the server has."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._upstream = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.round_trips = 0
        self._drops_at = 0
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def counting(self) -> Iterator[list[int]]:
        """A list that holds the number of round trips made within, once it is left."""
        before, counted = self.round_trips, [0]
        yield counted
        counted[0] = self.round_trips - before

    def usual(self, act: Callable[[], object]) -> int:
        """How many round trips something takes, of several times that it is done.

        On a busy machine one may differ: what is long is answered in part before all of it is sent, and what need
        not wait for an answer is sent behind or before it.
        """
        counts = []
        for _ in range(SAMPLES):
            with self.counting() as counted:
                act()
            counts += counted
        return statistics.mode(counts)

    def drop_after(self, round_trips: int) -> None:
        """End every connection as soon as so many more round trips have begun."""
        self._drops_at = self.round_trips + round_trips

    def count(self) -> None:
        self.round_trips += 1
        if self.round_trips == self._drops_at:
            self.drop_connections()

    def drop_connections(self) -> None:
        """End every connection, as a network or a server that went away does."""
        while self._sockets:
            _shut(self._sockets.pop())

    def close(self) -> None:
        self._listener.close()
        self.drop_connections()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._upstream)
            for connection in (client, server):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            Conversation(self, client, server)


class Conversation:
    def __init__(self, proxy: CountingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._server_spoke_last = True
        for source, target, is_server in ((client, server, False), (server, client, True)):
            threading.Thread(target=self._pump, args=(source, target, is_server), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_server: bool) -> None:
        with suppress(OSError):  # the connection is over, which the other side learns next
            while data := source.recv(65_536):
                if not is_server and self._server_spoke_last:
                    self._proxy.count()
                self._server_spoke_last = is_server
                target.sendall(data)
        _shut(target)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # already shut
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def counting_proxy(url: str) -> Iterator[tuple[CountingProxy, str]]:
    """A proxy in front of the server at `url`, and the URL that leads through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = CountingProxy((parts.hostname, parts.port))
    user = f"{parts.username}@" if parts.username else ""
    try:
        yield proxy, urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}"))
    finally:
        proxy.close()
