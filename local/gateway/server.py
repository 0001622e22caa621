"""Serves a gateway with uvicorn inside the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn

from local.gateway.gateway import AsgiApp, Gateway
from local.gateway.limits import MAXIMUM_FRAME_BYTES, MAXIMUM_MESSAGE_BYTES

_GRACEFUL_SHUTDOWN_SECONDS = 5


class PortInUseError(OSError):
    """Another program listens on the gateway's port."""

    def __init__(self, port: int) -> None:
        super().__init__(errno.EADDRINUSE, f"port {port} is in use; set PORT=… to another one")
        self.port = port

    def __str__(self) -> str:
        return str(self.strerror)


def _is_ours(record: logging.LogRecord) -> bool:
    """uvicorn logs text frames that are not UTF-8 as errors of its own; it has closed those connections with 1007."""
    return not (record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError))


logging.getLogger("uvicorn.error").addFilter(_is_ours)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the platform has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve(gateway: Gateway, host: str = "127.0.0.1", port: int = 8080) -> AsyncIterator[int]:
    """Serve a gateway while the context is open; gives the port, which is a free one for `port=0`.

    On leaving, WebSockets are closed with 1001 and requests in progress get 5 seconds to finish. Raises
    PortInUseError, and OSError for an address that is not this machine's.
    """
    async with serve_app(gateway, host, port) as served_port:
        try:
            yield served_port
        finally:
            await gateway.close_connections()


@contextlib.asynccontextmanager
async def serve_app(app: AsgiApp, host: str, port: int) -> AsyncIterator[int]:
    """Serve any ASGI application while the context is open; see `serve`."""
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=(MAXIMUM_MESSAGE_BYTES, MAXIMUM_FRAME_BYTES),  # type: ignore[arg-type]  # websockets takes both
        ws_ping_interval=None,  # API Gateway does not ping its clients
        ws_per_message_deflate=False,  # nor compress
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the source address is the peer, whatever X-Forwarded-For says
        timeout_graceful_shutdown=_GRACEFUL_SHUTDOWN_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving


def check_port(host: str, port: int) -> None:
    """Raise PortInUseError now rather than after everything else has started."""
    _listen(host, port).close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(port) from None
        raise
    return listener
