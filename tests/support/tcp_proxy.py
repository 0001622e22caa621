"""A TCP proxy that cuts connections where a test says: what a failover or a lost packet does to a client."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from psycopg.conninfo import conninfo_to_dict, make_conninfo

HOST = "127.0.0.1"


@dataclass
class Cuts:
    """`request(data)` and `answer(data)` say whether to cut instead of passing data on to the server or the client.

    `reset`: a cut connection ends with a reset and not as if its other side had closed it.
    """

    request: Callable[[bytes], bool] = lambda _: False
    answer: Callable[[bytes], bool] = lambda _: False
    reset: bool = False
    made: int = field(default=0)


@contextmanager
def tcp_proxy(port: int, cuts: Cuts) -> Iterator[int]:
    """A proxy of the server at `port` on this machine; the port that it listens on itself."""
    listener = socket.create_server((HOST, 0))
    open_sockets: list[socket.socket] = [listener]
    threads: list[threading.Thread] = []

    def start(target: Callable[..., None], *arguments: object) -> None:
        threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        threads[-1].start()

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection((HOST, port))
                except ConnectionRefusedError:
                    client.close()
                    continue
                open_sockets.extend((client, server))
                start(_pass_on, client, server, lambda data: cuts.request(data), cuts)
                start(_pass_on, server, client, lambda data: cuts.answer(data), cuts)

    start(serve)
    try:
        yield listener.getsockname()[1]
    finally:
        for each in open_sockets:
            _close(each)
        for thread in threads:
            thread.join(5)


@contextmanager
def cut_off(url: str, cuts: Cuts) -> Iterator[str]:
    """The address of the same database, behind a proxy that cuts."""
    address = conninfo_to_dict(url)
    with tcp_proxy(int(str(address["port"])), cuts) as port:
        yield make_conninfo(url, host=HOST, port=port)


def committed(data: bytes) -> bool:
    """Whether this is the server's word that a transaction has been committed (CommandComplete)."""
    return b"COMMIT\x00" in data


def _pass_on(source: socket.socket, target: socket.socket, is_cut: Callable[[bytes], bool], cuts: Cuts) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            if is_cut(data):
                cuts.made += 1
                if cuts.reset:
                    _reset(source)
                    _reset(target)
                break
            target.sendall(data)
    _close(source)
    _close(target)


def _reset(each: socket.socket) -> None:
    with suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.shutdown(socket.SHUT_RD)  # wakes whoever reads it, for only then it is closed
        each.close()


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
